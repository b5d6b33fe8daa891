// A picture of any size as the 28 x 28 pixels that the network has learned from: a bright thing on
// black that fills the longer side. Integers only, so that helpers/picture.py finds the same.

export const SIDE = 28;
export const MOST = 40e6; // pixels of a picture
const SEEN = 32; // gray levels above the background count as the thing

export class Refused extends Error {}

/** RGBA bytes, as a canvas gives them -> gray 0 to 255, what is transparent being white. */
export function grayOf(rgba) {
  const gray = new Uint8Array(rgba.length / 4);
  const over = (c, a) => Math.floor((c * a + 255 * (255 - a) + 127) / 255);
  for (let k = 0, i = 0; k < gray.length; k++, i += 4) {
    const a = rgba[i + 3];
    const [r, g, b] = [over(rgba[i], a), over(rgba[i + 1], a), over(rgba[i + 2], a)];
    gray[k] = (r * 19595 + g * 38470 + b * 7471 + 32768) >> 16;
  }
  return gray;
}

/** Bright on black, whatever it was: the border tells the background. */
export function onBlack(gray, width, height) {
  const border = [];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (y === 0 || x === 0 || y === height - 1 || x === width - 1) border.push(gray[y * width + x]);
  border.sort((a, b) => a - b);
  let level = border[Math.floor((border.length - 1) / 2)];
  const bright = level >= 128;
  if (bright) level = 255 - level;
  const span = 255 - level;
  return gray.map((v) => {
    const above = Math.max(0, (bright ? 255 - v : v) - level);
    return Math.floor((2 * above * 255 + span) / (2 * span));
  });
}

/** [left, top, right, bottom] around all that is brighter than SEEN. */
export function boxOf(gray, width, height) {
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (gray[y * width + x] > SEEN) {
        left = Math.min(left, x);
        top = Math.min(top, y);
        right = Math.max(right, x + 1);
        bottom = Math.max(bottom, y + 1);
      }
  if (right === 0) throw new Refused("there is nothing in it but background");
  return [left, top, right, bottom];
}

/** For each of `out` places the inputs that it covers: [index, overlap in 1 / out of an input]. */
function overlaps(given, out) {
  return Array.from({ length: out }, (_, i) => {
    const [from, to] = [i * given, (i + 1) * given];
    const found = [];
    for (let j = Math.floor(from / out); j * out < to; j++)
      found.push([j, Math.min(to, (j + 1) * out) - Math.max(from, j * out)]);
    return found;
  });
}

/** Gray [height, width] -> [outHeight, outWidth], each the mean of the area that it covers. */
export function shrink(gray, width, height, outWidth, outHeight) {
  const rows = overlaps(height, outHeight).map((parts) => {
    const row = new Float64Array(width);
    for (const [j, share] of parts)
      for (let x = 0; x < width; x++) row[x] += share * gray[j * width + x];
    return row;
  });
  const columns = overlaps(width, outWidth);
  const whole = width * height;
  const out = new Uint8Array(outWidth * outHeight);
  rows.forEach((row, i) =>
    columns.forEach((parts, k) => {
      let sum = 0;
      for (const [j, share] of parts) sum += share * row[j];
      out[i * outWidth + k] = Math.floor((2 * sum + whole) / (2 * whole));
    }),
  );
  return out;
}

/** Its box, the longer side 28 pixels long, in the middle of 28 x 28. */
export function fitted(gray, width, height) {
  const [left, top, right, bottom] = boxOf(gray, width, height);
  const [w, h] = [right - left, bottom - top];
  const longest = Math.max(w, h);
  const size = (n) => Math.max(1, Math.floor((2 * SIDE * n + longest) / (2 * longest)));
  const [outW, outH] = [size(w), size(h)];
  const cut = new Uint8Array(w * h);
  for (let y = 0; y < h; y++)
    cut.set(gray.subarray((top + y) * width + left, (top + y) * width + right), y * w);
  const small = shrink(cut, w, h, outW, outH);
  const pixels = new Uint8Array(SIDE * SIDE);
  const [x0, y0] = [Math.floor((SIDE - outW) / 2), Math.floor((SIDE - outH) / 2)];
  for (let y = 0; y < outH; y++)
    pixels.set(small.subarray(y * outW, (y + 1) * outW), (y0 + y) * SIDE + x0);
  return pixels;
}

/** RGBA bytes -> 784 pixels; Refused says why not. */
export function toPixels(rgba, width, height) {
  return fitted(onBlack(grayOf(rgba), width, height), width, height);
}

/** A file -> {rgba, width, height}, upright as its camera says; Refused says why not. */
export async function read(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Refused("this browser cannot read it as a picture");
  }
  const { width, height } = bitmap;
  if (width * height > MOST)
    throw new Refused(`it has ${width} × ${height} pixels, more than ${MOST / 1e6} million`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { rgba: context.getImageData(0, 0, width, height).data, width, height };
}
