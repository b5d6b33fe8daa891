// The page: a picture in, logits and times out.
import { ENGINES, race } from "./engines.js";
import { Refused, SIDE, grayOf, onBlack, read, toPixels } from "./picture.js";

const $ = (id) => document.getElementById(id);
const about = await (await fetch("demo.json")).json();
const loaded = {};
let pixels = null;

// --- the answer ---

function element(tag, text, parent) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  parent?.append(made);
  return made;
}

function paint(canvas, gray) {
  const image = new ImageData(SIDE, SIDE);
  gray.forEach((v, k) => image.data.set([v, v, v, 255], 4 * k));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const best = (logits) => logits.indexOf(Math.max(...logits));

async function answer(found, name) {
  pixels = found;
  paint($("seen"), pixels);
  const results = {};
  for (const key in loaded) results[key] = await loaded[key].run(pixels);
  if (pixels !== found) return; // a newer picture came in between
  const said = best(results.own);
  $("answer").textContent = `${name}: ${about.classes[said]}`;
  const [head, body] = $("logits").children;
  head.replaceChildren();
  const heads = element("tr", undefined, head);
  for (const text of ["class", ...Object.keys(results).map((key) => loaded[key].name)])
    element("th", text, heads).scope = "col";
  body.replaceChildren();
  about.classes.forEach((label, c) => {
    const row = element("tr", undefined, body);
    row.className = c === said ? "top" : "";
    element("th", label, row).scope = "row";
    for (const key in results) {
      const { scale, zero } = loaded[key].ends;
      element("td", ((results[key][c] - zero) * scale).toFixed(2), row);
    }
  });
  const notes = [];
  if (results.litert) {
    const differ = results.litert.filter((v, c) => v !== results.own[c]).length;
    notes.push(`LiteRT.js: ${differ} of 10 differ from our C's, in the same file.`);
  }
  if (results.ort) notes.push("onnxruntime-web runs an .onnx file, which has other scales.");
  $("differ").textContent = notes.join(" ");
}

function refuse(name, why) {
  $("answer").textContent = `${name}: not answered, ${why}.`;
}

// --- drawing ---

const pad = $("draw");
const pen = pad.getContext("2d", { willReadFrequently: true });
const ink = new OffscreenCanvas(pad.width, pad.height).getContext("2d", { willReadFrequently: true });
const STEP = 10;
let cursor = { x: 140, y: 140 };
let down = false;
let keyed = false;

function show() {
  pen.drawImage(ink.canvas, 0, 0);
  if (!keyed || document.activeElement !== pad) return;
  pen.strokeStyle = down ? "#ffb000" : "#5ab4ff";
  pen.lineWidth = 2;
  pen.beginPath();
  for (const [dx, dy] of [[1, 0], [0, 1]]) {
    pen.moveTo(cursor.x - 9 * dx, cursor.y - 9 * dy);
    pen.lineTo(cursor.x + 9 * dx, cursor.y + 9 * dy);
  }
  pen.stroke();
}

function clear() {
  ink.fillStyle = "#000";
  ink.fillRect(0, 0, pad.width, pad.height);
  show();
}

function line(to) {
  ink.strokeStyle = "#fff";
  ink.lineWidth = 22;
  ink.lineCap = "round";
  ink.beginPath();
  ink.moveTo(cursor.x, cursor.y);
  ink.lineTo(to.x, to.y);
  ink.stroke();
  cursor = to;
  show();
}

async function drawn() {
  const { data } = ink.getImageData(0, 0, pad.width, pad.height);
  try {
    await answer(toPixels(data, pad.width, pad.height), "Your drawing");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    refuse("Your drawing", error.message);
  }
}

const place = (event) => {
  const box = pad.getBoundingClientRect();
  return { x: ((event.clientX - box.left) * pad.width) / box.width, y: ((event.clientY - box.top) * pad.height) / box.height };
};

let pointer = null;
pad.addEventListener("pointerdown", (event) => {
  pad.setPointerCapture(event.pointerId);
  [pointer, cursor, keyed, down] = [event.pointerId, place(event), false, false];
  line({ ...cursor });
});
pad.addEventListener("pointermove", (event) => {
  if (event.pointerId === pointer) line(place(event));
});
for (const end of ["pointerup", "pointercancel"])
  pad.addEventListener(end, (event) => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    drawn();
  });

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
pad.addEventListener("keydown", (event) => {
  const move = MOVES[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey || !(move || event.key === " " || event.key === "Delete")) return;
  event.preventDefault();
  keyed = true;
  if (event.key === "Delete") return wipe();
  if (event.key === " ") {
    down = !down;
    if (down) line({ ...cursor });
    else drawn();
    return show();
  }
  const inside = (v, most) => Math.max(0, Math.min(most, v));
  const to = { x: inside(cursor.x + move[0] * STEP, pad.width), y: inside(cursor.y + move[1] * STEP, pad.height) };
  if (down) line(to);
  else cursor = to;
  show();
});
for (const kind of ["focus", "blur"]) pad.addEventListener(kind, show);

function wipe() {
  down = false;
  clear();
  $("answer").textContent = "Cleared. Draw, or choose a picture.";
}
$("clear").addEventListener("click", wipe);

// --- files and samples ---

async function open(file) {
  try {
    const { rgba, width, height } = await read(file);
    await answer(toPixels(rgba, width, height), file.name);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    refuse(file.name, error.message);
  }
}

$("file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) await open(file);
  event.target.value = ""; // so that the same file can be chosen again
});

async function samples() {
  const bytes = new Uint8Array(await (await fetch("samples.bin")).arrayBuffer());
  about.classes.forEach((label, c) => {
    const gray = bytes.slice(784 * c, 784 * (c + 1));
    const button = element("button", undefined, $("samples"));
    button.type = "button";
    const canvas = element("canvas", undefined, button);
    [canvas.width, canvas.height] = [SIDE, SIDE];
    canvas.setAttribute("aria-hidden", "true");
    paint(canvas, gray);
    element("span", label, button);
    button.addEventListener("click", () => answer(gray, `Sample (${label})`));
  });
}

// --- engines ---

async function load(key, threads = 1) {
  const engine = new ENGINES[key]();
  const start = performance.now();
  await engine.load(about, threads);
  await engine.run(new Uint8Array(784));
  engine.started = performance.now() - start;
  loaded[key] = engine;
  return engine;
}

function offers() {
  for (const key of ["litert", "ort"]) {
    const name = new ENGINES[key]().name;
    if (!about[key].there) {
      element("p", `${name} is not installed: run make demo where npm is.`, $("engines"));
      continue;
    }
    const button = element("button", `Load ${name} (${(about[key].bytes / 1e6).toFixed(1)} MB)`, $("engines"));
    button.type = "button";
    button.addEventListener("click", async () => {
      button.disabled = true;
      button.textContent = `Loading ${name}`;
      try {
        await load(key);
        button.textContent = `${name} is loaded`;
      } catch (error) {
        button.textContent = `${name} did not load: ${error.message}`;
      }
      if (pixels) await answer(pixels, "Again");
    });
  }
}

$("measure").addEventListener("click", async () => {
  $("measured").textContent = "Measuring.";
  const times = await race(loaded, pixels ?? new Uint8Array(784));
  const [head, body] = $("times").children;
  head.replaceChildren();
  const heads = element("tr", undefined, head);
  for (const text of ["engine", "kernels", "threads", "ms a picture", "start, ms"]) element("th", text, heads).scope = "col";
  body.replaceChildren();
  for (const key in times) {
    const row = element("tr", undefined, body);
    element("th", loaded[key].name, row).scope = "row";
    const { median, low, high } = times[key];
    const shown = `${median.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;
    for (const text of [loaded[key].kernels, loaded[key].threads, shown, loaded[key].started.toFixed(0)]) element("td", text, row);
  }
  $("measured").textContent =
    `${about.network}, one picture at a time: median (and quartiles) of 21 blocks of at least 10 ms, engines in turn, ` +
    "from pixels to logits. Start: from the first request to the first logits. " +
    `The clock moves in steps of ${crossOriginIsolated ? "5 µs" : "0.1 ms"}.`;
});

// --- start ---

clear();
offers();
await Promise.all([samples(), load("own")]);
$("answer").textContent = "Draw, or choose a picture.";
window.edge = { about, load, loaded, open, race, toPixels, grayOf, onBlack, answer };

if ("serviceWorker" in navigator) {
  await navigator.serviceWorker.register("sw.js");
  await navigator.serviceWorker.ready;
  $("offline").textContent = "Ready to work offline.";
}
document.documentElement.dataset.ready = "yes";
