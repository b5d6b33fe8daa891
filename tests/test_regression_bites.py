"""The suite goes red when a helper is wrong: proved by breaking one in a copy of the project.

Each entry of BREAKS names a notebook, a helper and the mistake. The copy holds the helpers, one
notebook and a link to the data, and pytest runs there as `make test` runs it here, until a cell is
red. Where slow cells come before, an entry names the cells that are needed to notice: the copy has
these alone, and is green where no helper is broken.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from helpers import toolchain, wasm

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 900
pytestmark = pytest.mark.breaks  # `make test-breaks`: they take as long as ten lessons


class Break(NamedTuple):
    """In `helper`, `old` becomes `new`; `notebook` must notice, because of `why`.

    cells: texts, each in one code cell of the notebook; the copy has these cells, the last of which
    notices. Without texts it has all cells.
    """

    notebook: str
    helper: str
    old: str
    new: str
    why: str
    cells: tuple[str, ...] = ()


C_ON_THE_HOST = (  # cells of lesson 47
    "# imports",
    "files = {n: convert",
    "MICRO = not toolchain.missing()",
    "generated = {name",
    "theirs = {name: answers(",
)

C_IN_A_PAGE = (  # cells of lesson 48
    "# imports",
    "int8 = convert.to_tflite",
    "MICRO = not wasm.missing()",
    "generated = c_model.generate",
    "plain = wasm.WasmModel",
    "differ = (plain.run(pixels)",
    "rivals = {",
)

SOUND_AND_FEATURES = (  # cells of lesson 46
    "# imports",
    "real, synthetic =",
    "return np.stack([x[t * H",
    "def power(",
    "def mel_filters(",
    "def log_mel_by_hand(",
    "OURS = dict(",
    "by_hand = np.stack",
)
UPDATES = ("# imports", "# prepares: a folder for this lesson", "v1 = convert.to_tflite(")

BREAKS = [
    Break(
        "00_start_here",
        "deployed.py",
        "np.rint(x / np.float64(self.scale))",
        "np.floor(x / np.float64(self.scale))",
        "a pixel is rounded to the nearest integer, not down",
    ),
    Break(
        "00_start_here",
        "inputs.py",
        ".div_(255)",
        ".div_(256)",
        "the twin and the original read the same pixels",
    ),
    Break(
        "00_start_here",
        "significance.py",
        "/ (n + 2)) ** 0.5",
        "/ (n + 2)) ** 0.25",
        "an interval shrinks with the root of n",
    ),
    Break(
        "12_cnn_math",
        "recorder.py",
        "else value).numel() * args[1][0].numel()",
        "else value[0, 0]).numel() * args[1][0].numel()",
        "every output map costs MACs, not only the first",
        cells=(
            "import ipywidgets",
            'resnet = models.load("ResNet8")',
            "def conv_cost(",
            "cost = {name: conv_cost(",
            "costs.layer_costs(resnet",
        ),
    ),
    Break(
        "13_cnn_training",
        "convolution.py",
        "np.matmul(rows, columns, out=result)",
        "np.matmul(rows, columns[..., ::-1], out=result)",
        "each window meets its own place of the output",
    ),
    Break(
        "15_lstm_and_gru",
        "architectures.py",
        "return self.head(outputs.mean(1))",
        "return self.head(outputs[:, -1])",
        "the network reads the mean of its states, as the stream does",
    ),
    Break(
        "16_training_a_baseline",
        "train.py",
        "nesterov=True",
        "nesterov=False",
        "the helper trains as the loop in the lesson does",
        cells=(
            "import ipywidgets",
            "fit_set, validation, test =",
            "def one_cycle(",
            "def train_by_hand(",
            "by_helper = models.build",
            "helper and loop train differently",
        ),
    ),
    Break(
        "17_motion_and_people",
        "data.py",
        "np.arange(end - n, end - 99, 50)",
        "np.arange(end - n, end - 99, 25)",
        "windows begin every 50 steps",
    ),
    Break(
        "18_costs_and_budgets",
        "costs.py",
        "born[b] <= now <= last[b]",
        "born[b] <= now < last[b]",
        "a tensor is alive while its last reader runs",
    ),
    Break(
        "21_quantization_formulas",
        "quantize.py",
        "(width / steps)",
        "(width / (steps + 1))",
        "2^b levels have 2^b - 1 steps between them",
    ),
    Break(
        "22_number_formats",
        "quantize.py",
        "size.clamp(min=1)",
        "(size + 1)",
        "a center is the mean of its weights",
    ),
    Break(
        "24_rescuing_low_bits",
        "ptq.py",
        "    return quantize.fake_quantize(w, params)",
        "    return w",
        "weights lie on the levels of their integers",
    ),
    Break(
        "25_quantization_aware_training",
        "learned_step.py",
        "self.step.numel()) ** -0.5",
        "self.step.numel()) ** -1.0",
        "a step's gradient is divided by the root of N qmax",
    ),
    Break(
        "26_quantization_toolkits",
        "folding.py",
        "torch.where(lost, 0, g.sign())",
        "torch.where(lost, 0, g.sign().abs())",
        "a negative factor turns the signs of its filter's integers",
        cells=(
            "import ipywidgets",
            "eight = models.load(",
            "def integer_weights(",
            "ready = qat.fold(eight)",
        ),
    ),
    Break(
        "31_pruning_weights",
        "prune.py",
        "* left**3",
        "* left**2",
        "the share of zeros follows a cubic",
        cells=(
            "import ipywidgets",
            "return final * (1 - (1 - min(",
            "prune.gradual_sparsity(30",
        ),
    ),
    Break(
        "32_pruning_structures",
        "filters.py",
        "weight = torch.stack(rows)",
        "weight = torch.stack(rows[::-1])",
        "filters that stay keep their order",
        cells=(
            "import ipywidgets",
            'resnet = models.load("ResNet8")',
            "return w[keep], norm",
            "def shrink(",
            "helper = remove_filters(",
            "assert equal(ours, helper)",
        ),
    ),
    Break(
        "33_distillation",
        "distill.py",
        "alpha * T**2 * soft",
        "alpha * T * soft",
        "softening makes gradients smaller by T squared",
        cells=(
            "import ipywidgets",
            "log_q, log_p =",
            "def mixed_loss(",
            "kerass =",
            "theirs = soft_target_loss(",
        ),
    ),
    Break(
        "35_deep_compression",
        "sharing.py",
        "torch.bincount(index, each, context.entries)",
        "torch.bincount(index, each.abs(), context.entries)",
        "an entry's gradient is the sum of its weights' gradients",
    ),
    Break(
        "34_efficient_architectures",
        "recorder.py",
        "(args[0] if transposed else value).numel() * args[1][0].numel()",
        "(args[0] if transposed else value).numel() * args[1][0, 0].numel()",
        "a filter reads all channels of its group",
    ),
    Break(
        "36_learned_sparsity",
        "gates.py",
        "torch.sigmoid(self.log_alpha - self.shift)",
        "torch.sigmoid(self.log_alpha + self.shift)",
        "an open gate is one whose stretched value is above 0",
        cells=(
            "import ipywidgets",
            "BETA, GAMMA, ZETA =",
            "u = torch.rand(200_000, generator",
            "def open_probability(",
            "frequency =",
            "log_alpha.requires_grad_()",
            "layer = L0Gate(5",
        ),
    ),
    Break(
        "37_sparse_files_and_speed",
        "prune.py",
        "order[:, :, m - n :]",
        "order[:, :, : m - n]",
        "2:4 keeps the largest two of four",
        cells=(
            "import ipywidgets",
            'lenet = models.load("LeNet300")',
            "def block_mask(",
            "PATTERNS = {",
            "def kept(",
            "blocks keep more, shuffled",
        ),
    ),
    Break(
        "38_the_order_of_the_steps",
        "codec.py",
        "np.append(numbers.dtype.type(0), numbers)[index]",
        "np.append(numbers.dtype.type(0), numbers[::-1])[index]",
        "a file gives back the integers that were put in",
    ),
    Break(
        "39_architecture_search",
        "search.py",
        "layer.weight.numel() + 4 * len(layer.weight)",
        "layer.weight.numel()",
        "a bias costs four bytes",
    ),
    Break(
        "40_measuring_on_a_device",
        "deployed.py",
        "return (q.astype(np.float32) - self.zero_point) * np.float32(self.scale)",
        "return q.astype(np.float32) * np.float32(self.scale)",
        "an output's integers are counted from its zero point",
        cells=(
            "# imports",
            "files = {kind: to_tflite",
            "np.maximum(0, 1 - leads / step)",
            "def lead(z)",
            "z, y = logits",
            "def before_rounding",
            "exact = before_rounding",
        ),
    ),
    Break(
        "41_tflite_conversion",
        "convert_tflite.py",
        "images.flat[images.argmax()] = 255",
        "images.flat[images.argmax()] = 254",
        "the input takes every pixel as it is",
    ),
    Break(
        "42_onnx_and_executorch",
        "convert_onnx.py",
        "        del part.metadata_props[:]\n",
        "        pass\n",
        "a file holds no notes on the machine that made it",
        cells=(
            "import ipywidgets",
            'resnet = models.load("ResNet8")',
            "def exported(",
            "proto = exported(resnet",
            "def weight_bytes(",
        ),
    ),
    Break(
        "43_integer_only_inference",
        "integer_ops.py",
        "int(x.zero_points[0]) if outside is None else outside",
        "0 if outside is None else outside",
        "outside the image stands 0.0, whose integer is the zero point",
        cells=(
            "import ipywidgets",
            "NAMES = (",
            "def folded_bias(",
            "def sums(",
            "return np.rint(fraction * 2**31)",
            "def high_multiply(",
            "half = (1 << n) >> 1",
            "def times(a, factor)",
            "def factors(",
            "def opened(",
            "litert = all_tensors(",
            "def finished(",
            "def differing(",
        ),
    ),
    Break(
        "44_on_device_inference",
        "timing.py",
        "_ratio(means[name], means[first], ",
        "_ratio(means[first], means[name], ",
        "a ratio above 1 is slower than the first",
        cells=(
            "# imports",
            "def stack(side",
            "def int8_over_float",
            "by_shape = {name",
            "few, many =",
        ),
    ),
    Break(
        "45_real_time_detection",
        "data.py",
        'np.array(image.convert("RGB"))',
        'np.array(image.convert("RGB"))[..., ::-1].copy()',
        "red is the first of a photograph's colors",
        cells=(
            "# imports",
            "blazeface = data.face_detector()",
            "def anchors(",
            "def decode(",
            "astronaut = photos",
            "candidates = np.flatnonzero",
            "def draw_boxes(",
            "low, high = np.maximum(box[:2]",
            "def nms(",
            "def agrees(",
            "def weighted_nms(",
            "def explore(",
            "def letterbox(",
            "def faces(",
            "recorded = data.face_detector_answers()",
        ),
    ),
    Break(
        "46_keyword_spotting",
        "features.py",
        "np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)",
        "np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1))",
        "the window of a spectrum is periodic",
        cells=SOUND_AND_FEATURES,
    ),
    Break(
        "46_keyword_spotting",
        "sound.py",
        "if x.ndim != 1:",
        "if x.ndim > 2:",
        "stereo is refused by name",
        cells=(
            "# imports",
            "real, synthetic =",
            "seven = real",
            "faulty = {",
            "for name, sound in faulty",
        ),
    ),
    Break(
        "46_keyword_spotting",
        "speech.py",
        "x.astype(np.float32) / 255",
        "x.astype(np.float32) / 128",
        "a network reads the bytes with the scale that it learned on",
        cells=(
            "# imports",
            "real, synthetic =",
            "networks = {name",
            "def logits_of(",
            "rows = []\nfor name, model in",
            "gap = means",
        ),
    ),
    Break(
        "47_microcontroller",
        "arena.py",
        "o.first <= b.last and b.first <= o.last",
        "o.first < b.last and b.first < o.last",
        "a tensor that is read may not be written over",
        cells=(
            "# imports",
            "files = {n: convert",
            "def place(tensors)",
            "A, B, C, D = (",
            "def buffers_of(",
            "the helper places as the lesson does",
        ),
    ),
    Break(
        "47_microcontroller",
        "c_layers.py",
        'fields["offset"] = -count * int(x.zero_points[0])',
        'fields["offset"] = 0',
        "the sum of a mean lacks the zero point of each value",
        cells=C_ON_THE_HOST,
    ),
    Break(
        "47_microcontroller",
        "c/kernels.c",
        "rescale_once(sum",
        "rescale_twice(sum",
        "dense layers round once",
        cells=C_ON_THE_HOST,
    ),
    Break(
        "48_browser",
        "picture.py",
        "    if level >= 128:",
        "    if level >= 256:",
        "a dark thing on a bright sheet is inverted",
        cells=("# imports", "sheet = np.full((3, 3)"),
    ),
    Break(
        "48_browser",
        "c/dot_simd128.c",
        "parts[0] + parts[1] + parts[2] + parts[3]",
        "parts[0] + parts[1] + parts[2]",
        "each of the register's four sums counts",
        cells=C_IN_A_PAGE,
    ),
    Break(
        "49_harder_conversions",
        "convert_streaming.py",
        "b_ih - w_ih @ (mean / deviation)",
        "b_ih - w_ih @ mean",
        "the standardization's mean goes into the bias",
    ),
    Break(
        "54_model_updates",
        "slots.py",
        'return content if digest(content) == state["sha256"].get(slot) else None',
        "return content",
        "a half-written slot is never loaded",
        cells=(
            *UPDATES,
            "# prepares: a place that is served",
            "# prepares: a new device, and what it gets",
            "# prepares: for each method a folder",
            "confused = copy.deepcopy(network)",
            "for start in range(3):",
            "# half-written",
        ),
    ),
    Break(
        "54_model_updates",
        "tuf_repository.py",
        'min(len(keys), 2) if role == "root" else 1',
        "1",
        "one stolen root key is not enough",
        cells=(
            *UPDATES,
            "ours, foreign = (",
            "class Refused(",
            "# prepares: words for what a device does",
            "# prepares: a place that is served",
            "def release(",
            "server = Serving(site)\nprint(outcome(update_by_hand",
            "repository = Repository(",
            "# prepares: a new device, and what it gets",
            "def thief(",
            "# prepares: the attacks, each",
            "# tabulates: what python-tuf answers",
            "# asserts: which exception",
        ),
    ),
    Break(
        "55_model_in_the_field",
        "significance.py",
        "binomtest(only_b, discordant).pvalue",
        'binomtest(only_b, discordant, alternative="less").pvalue',
        "a paired test looks at both sides",
        cells=(
            "# imports",
            "fit_set, validation = ",
            "def p_paired(",
            "found = compare_accuracy(old",
        ),
    ),
    Break(
        "55_model_in_the_field",
        "inputs.py",
        ".div_(255)",
        ".div_(85)",
        "the float network and its int8 file read the same pixels",
        cells=(
            "# imports",
            "fit_set, validation = ",
            "def loss_gradient(",
            "def pgd(",
            "def survivors(",
            "METHODS, LEVELS = ",
            'assert table.loc[("random", 8)',
        ),
    ),
]


def copy_project(root: Path, notebook: str, target: Path) -> Path:
    """A copy in which one notebook can be tested; the data is linked, not copied."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "helpers", target / "helpers", ignore=ignore)
    (target / "notebooks").mkdir()
    for path in (f"notebooks/{notebook}.ipynb", "pyproject.toml", "conftest.py"):
        source = root / path if (root / path).exists() else ROOT / path
        shutil.copy(source, target / path)
    if (root / "data").exists():
        (target / "data").symlink_to((root / "data").resolve(), target_is_directory=True)
    return target


def shortened(change: Break, root: Path) -> NotebookNode:
    """The notebook with the cells that `change` names, in the notebook's order."""
    notebook = nbformat.read(root / "notebooks" / f"{change.notebook}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for text in change.cells:
        times = sum(text in cell.source for cell in code)
        if times != 1:
            raise LookupError(
                f"{change.notebook} has {times} code cells with {text!r}, not one: bring BREAKS in "
                "tests/test_regression_bites.py up to date"
            )
    if change.cells:
        notebook.cells = [c for c in code if any(text in c.source for text in change.cells)]
    return notebook


def apply(change: Break, project: Path) -> None:
    """Break the copy's helper; a text that is not there exactly once is an error of the table."""
    path = project / "helpers" / change.helper
    text = path.read_text(encoding="utf-8")
    times = text.count(change.old)
    if times != 1:
        raise LookupError(
            f"helpers/{change.helper} holds {change.old!r} {times} times, not once: "
            f"bring BREAKS in tests/test_regression_bites.py up to date"
        )
    broken = text.replace(change.old, change.new)
    if path.suffix == ".py":
        compile(broken, change.helper, "exec")  # a mistake in the numbers, not in the syntax
    path.write_text(broken, encoding="utf-8")


def run_notebooks(project: Path, *notebooks: str) -> subprocess.CompletedProcess:
    """pytest on notebooks of the copy; the copy's helpers come before the installed ones."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(project)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # others take seconds to import
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "--color=no"]
    command += ["-p", "xdist", "-p", "nbval.plugin", "-p", "no:cacheprovider"]
    command += [f"notebooks/{notebook}.ipynb" for notebook in notebooks]
    return subprocess.run(
        command,
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )


def copy_name(change: Break) -> str:
    """What the shortened copy of one break is called beside those of others."""
    return f"{change.notebook}-{change.helper.replace('/', '-')}"


def assert_green(result: subprocess.CompletedProcess, cells: int) -> None:
    assert result.returncode == 0, f"red without a mistake:\n{result.stdout}\n{result.stderr}"
    assert re.search(rf"\b{cells} passed", result.stdout), f"not all was tested:\n{result.stdout}"


def assert_red(result: subprocess.CompletedProcess, change: Break) -> None:
    """Red because a cell's claim or number failed, not because the copy could not be run."""
    story = f"helpers/{change.helper}: {change.old!r} -> {change.new!r} ({change.why})"
    assert result.returncode == 1, f"{story} was not noticed:\n{result.stdout}\n{result.stderr}"
    noticed = "AssertionError" in result.stdout or "Cell outputs differ" in result.stdout
    assert noticed, f"{story} stopped the notebook before it could notice:\n{result.stdout}"


def test_the_shortened_copies_are_green_without_a_mistake(tmp_path):
    """So it is the mistake that turns them red. The whole lessons are green in the suite itself."""
    short = [change for change in BREAKS if change.cells]
    project, cells = copy_project(ROOT, short[0].notebook, tmp_path / "sound"), 0
    for change in short:
        notebook = shortened(change, ROOT)
        nbformat.write(notebook, project / "notebooks" / f"{copy_name(change)}.ipynb")
        cells += len(notebook.cells)
    names = [copy_name(change) for change in short]
    assert_green(run_notebooks(project, *names), cells)


# "::" in a test's name: xdist's loadscope then gives each break to the next worker that is free.
@pytest.mark.parametrize("change", BREAKS, ids=lambda c: f"{c.notebook}::{c.helper}")
def test_a_broken_helper_turns_the_suite_red(change, tmp_path):
    if change.cells == C_ON_THE_HOST and toolchain.missing():
        pytest.skip(toolchain.missing())
    if change.cells == C_IN_A_PAGE and wasm.missing():
        pytest.skip(wasm.missing())
    project = copy_project(ROOT, change.notebook, tmp_path / "broken")
    nbformat.write(shortened(change, ROOT), project / "notebooks" / f"{change.notebook}.ipynb")
    apply(change, project)
    assert_red(run_notebooks(project, change.notebook), change)


# --- the machinery itself, on a notebook made here -------------------------------------------

HELPER = """def quantize(x, scale):
    return round(x / scale)
"""
ROUND_TO_FLOOR = Break("98_made", "made.py", "round(x / scale)", "int(x // scale)", "it rounds")


@pytest.fixture
def made(tmp_path):
    """A project with one helper and one notebook: an import, an assert and a compared cell."""
    root = tmp_path / "project"
    (root / "helpers").mkdir(parents=True)
    (root / "notebooks").mkdir()
    (root / "helpers" / "__init__.py").touch()
    (root / "helpers" / "made.py").write_text(HELPER, encoding="utf-8")
    cells = [
        new_code_cell("from helpers.made import quantize", execution_count=1),
        new_code_cell("assert quantize(4.0, 2.0) == 2", execution_count=2),
        new_code_cell(
            "print(quantize(1.9, 1.0))",
            execution_count=3,
            outputs=[new_output("stream", name="stdout", text="2\n")],
            metadata={"tags": ["nbval-check-output"]},
        ),
    ]
    nbformat.write(new_notebook(cells=cells), root / "notebooks" / "98_made.ipynb")
    return root


def test_green_unbroken_and_red_broken(made, tmp_path):
    project = copy_project(made, "98_made", tmp_path / "copy")
    assert_green(run_notebooks(project, "98_made"), 3)
    apply(ROUND_TO_FLOOR, project)
    broken = run_notebooks(project, "98_made")
    assert_red(broken, ROUND_TO_FLOOR)
    assert "Cell outputs differ" in broken.stdout, "a compared cell noticed it"
    with pytest.raises(AssertionError, match="red without a mistake"):
        assert_green(broken, 3)
    assert "round" in (made / "helpers" / "made.py").read_text(encoding="utf-8"), "only the copy"


def test_a_mistake_that_nobody_notices_is_reported(made, tmp_path):
    project = copy_project(made, "98_made", tmp_path / "copy")
    harmless = ROUND_TO_FLOOR._replace(new="round(1.0 * x / scale)")
    apply(harmless, project)
    with pytest.raises(AssertionError, match="was not noticed"):
        assert_red(run_notebooks(project, "98_made"), harmless)


def test_a_crash_is_not_taken_for_a_proof(made, tmp_path):
    project = copy_project(made, "98_made", tmp_path / "copy")
    crash = ROUND_TO_FLOOR._replace(old="def quantize", new="def other")
    apply(crash, project)
    with pytest.raises(AssertionError, match="stopped the notebook before"):
        assert_red(run_notebooks(project, "98_made"), crash)


def test_a_shortened_copy_has_the_named_cells(made, tmp_path):
    project = copy_project(made, "98_made", tmp_path / "copy")
    short = ROUND_TO_FLOOR._replace(cells=("import", "print("))
    kept = shortened(short, made)
    assert [cell.execution_count for cell in kept.cells] == [1, 3]
    nbformat.write(kept, project / "notebooks" / "98_made.ipynb")
    assert_green(run_notebooks(project, "98_made"), 2)
    apply(short, project)
    assert_red(run_notebooks(project, "98_made"), short)
    assert len(shortened(ROUND_TO_FLOOR, made).cells) == 3
    for text in ("gone", "quantize"):
        with pytest.raises(LookupError, match="code cells with .*, not one"):
            shortened(short._replace(cells=("import", text)), made)


def test_a_shortened_copy_that_lacks_a_cell_proves_nothing(made, tmp_path):
    project = copy_project(made, "98_made", tmp_path / "copy")
    short = ROUND_TO_FLOOR._replace(cells=("print(",))
    nbformat.write(shortened(short, made), project / "notebooks" / "98_made.ipynb")
    with pytest.raises(AssertionError, match="stopped the notebook before"):
        assert_red(run_notebooks(project, "98_made"), short)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (ROUND_TO_FLOOR._replace(old="ceil(x)"), LookupError, "'ceil.x.' 0 times, not once"),
        (ROUND_TO_FLOOR._replace(old="scale"), LookupError, "2 times, not once"),
        (ROUND_TO_FLOOR._replace(new="round("), SyntaxError, "never closed"),
        (ROUND_TO_FLOOR._replace(helper="gone.py"), FileNotFoundError, "gone.py"),
    ],
)
def test_a_table_out_of_date_is_an_error(made, tmp_path, change, error, message):
    project = copy_project(made, "98_made", tmp_path / "copy")
    with pytest.raises(error, match=message):
        apply(change, project)
