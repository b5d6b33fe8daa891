"""Figures look the same, and appear, on every reader's machine."""

import itertools

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from helpers import figures

STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "figure.figsize": [7.2, 3.4],  # inches: 792 x 374 pixels
    "font.size": 11,
    "grid.color": "#e6e6e6",
    "image.cmap": "gray_r",  # 0 is white, as paper is
    "legend.frameon": False,
    "lines.linewidth": 2,
}
SHOWN = "print(*(plt.rcParams[k] for k in ('lines.linewidth', 'figure.facecolor', 'figure.dpi')))"
CELLS = [  # one that imports, sets the style and draws, as a lesson may
    "import matplotlib.pyplot as plt\n"
    "from helpers import figures\n"
    "figures.use_style()\n"
    "plt.plot([1, 2]);",
    f"plt.subplots()\n{SHOWN}",
]
MATPLOTLIBRC = "backend: TkAgg\ninteractive: False\nlines.linewidth: 9\nfigure.facecolor: black\n"
PROFILE = """c.InlineBackend.figure_formats = {"svg"}
c.InlineBackend.rc = {"lines.linewidth": 7}
c.InteractiveShellApp.matplotlib = "agg"
"""


# What is left of a color for people without one kind of cone (Machado et al. 2009).
SEEN = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
    ),
    "deuteranopia": np.array(
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
    ),
    "tritanopia": np.array(
        [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]
    ),
}


def linear(color: str) -> np.ndarray:
    """Light of the three primaries, from sRGB."""
    part = np.array(to_rgb(color))
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def contrast(color: str, ground: str = "white") -> float:
    """WCAG 2.2's ratio, 1 to 21."""
    light = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (color, ground))
    return (light[1] + 0.05) / (light[0] + 0.05)


def lab(light: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b*, in which a difference of 1 to 2 can barely be seen."""
    primaries = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(primaries) @ np.clip(light, 0.01, 1) / [0.9505, 1, 1.0888])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_text_in_the_course_s_colors_can_be_read():
    for color in (*figures.COLORS.values(), *figures.SERIES):
        assert contrast(color) >= 4.5, color


@pytest.mark.parametrize("eye", SEEN)
def test_the_course_s_colors_can_be_told_apart(eye):
    found = {name: lab(SEEN[eye] @ linear(color)) for name, color in figures.COLORS.items()}
    for a, b in itertools.combinations(found, 2):
        assert np.linalg.norm(found[a] - found[b]) > 10, (a, b)


def test_the_numbers_of_a_heat_table_can_be_read_at_every_value():
    for value in np.linspace(0.01, 1, 100):
        _, axis = plt.subplots()
        figures.heat_table(axis, np.array([[value]]), ["a"], ["x"], darkest=1)
        (image,), (text,) = axis.get_images(), axis.texts
        ground = image.cmap(image.norm(value))
        plt.close()
        assert contrast(text.get_color(), ground) > 4.4, value


@pytest.fixture(autouse=True)
def leave_matplotlib_as_it_was():
    with matplotlib.rc_context():
        yield
    plt.close("all")


def machine(name: str, folder) -> dict[str, str]:
    """What the environment and the working folder of such a reader hold."""
    if name.startswith("MPLBACKEND="):
        return {"MPLBACKEND": name.partition("=")[2]}
    if name == "a profile of IPython":
        profile = folder / "ipython" / "profile_default" / "ipython_kernel_config.py"
        profile.parent.mkdir(parents=True)
        profile.write_text(PROFILE)
        return {"IPYTHONDIR": str(folder / "ipython")}
    (folder / "matplotlibrc").write_text(MATPLOTLIBRC)
    return {}


@pytest.mark.parametrize(
    "reader",
    ["MPLBACKEND=Agg", "MPLBACKEND=TkAgg", "a matplotlibrc here", "a profile of IPython"],
)
def test_pictures_appear_in_a_notebook_and_look_the_same(reader, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    for key, value in machine(reader, tmp_path).items():
        monkeypatch.setenv(key, value)
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
    nbformat.validate(notebook)
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=120,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    for cell in notebook.cells:
        pictures = [o.data for o in cell.outputs if o.output_type == "display_data"]
        assert [sorted(data) for data in pictures] == [["image/png", "text/plain"]]
    texts = [o.text for o in notebook.cells[1].outputs if o.output_type == "stream"]
    assert texts == ["2.0 white 110.0\n"]


def test_the_style_does_not_depend_on_what_was_set_before():
    figures.use_style()
    once = dict(plt.rcParams)
    plt.rcParams.update({"axes.facecolor": "black", "font.size": 30, "text.usetex": True})
    figures.use_style()
    assert dict(plt.rcParams) == once


def test_the_style():
    figures.use_style()
    assert {key: plt.rcParams[key] for key in STYLE} == STYLE
    assert plt.rcParams["axes.prop_cycle"].by_key() == {"color": list(figures.COLORS.values())}
    assert len(figures.COLORS) == 7


def test_outside_a_notebook_the_backend_is_the_readers():
    for backend in ("svg", "agg"):
        matplotlib.use(backend)
        figures.use_style()
        assert matplotlib.get_backend() == backend


def test_colors_can_be_told_apart():
    colors = [matplotlib.colors.to_rgb(color) for color in figures.COLORS.values()]
    distance = np.abs(np.subtract.outer(colors, colors).diagonal(axis1=1, axis2=3)).max(-1)
    assert distance[~np.eye(len(colors), dtype=bool)].min() > 0.2


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (1, 8, 1), (8, 8, 1), (9, 8, 2), (5, 2, 3)]
)
def test_image_row_places_each_image_under_its_title(count, columns, rows):
    images = [np.full((3, 4), k) for k in range(count)]
    figure = figures.image_row(images, [f"no. {k}" for k in range(count)], columns)
    places = figure.axes
    assert len(places) == rows * columns
    assert figure.get_size_inches().tolist() == [1.25 * columns, 1.75 * rows]
    assert [axis.get_title() for axis in places[:count]] == [f"no. {k}" for k in range(count)]
    assert {axis.title.get_fontsize() for axis in places[:count]} == {9}
    for k, axis in enumerate(places):
        assert not axis.axison
        shown = [image.get_array() for image in axis.get_images()]
        assert [a.tolist() for a in shown] == ([images[k].tolist()] if k < count else [])


def test_image_row_has_eight_columns():
    assert len(figures.image_row([np.eye(2)], ["one"]).axes) == 8


@pytest.mark.parametrize(("count", "titles"), [(0, []), (1, []), (0, ["a"]), (2, ["a", "b", "c"])])
def test_image_row_wants_a_title_for_each_image(count, titles):
    with pytest.raises(ValueError, match=f"{count} images and {len(titles)} titles: give each"):
        figures.image_row([np.eye(2)] * count, titles)


def test_heat_table_writes_every_number_that_is_not_zero():
    values = np.array([[0, 1, 80], [100, 0, 72], [12345, -2.5, 72.1]])
    _, axis = plt.subplots()
    figures.heat_table(axis, values, ["a", "b", "c"], ["x", "y", "z"], darkest=100)
    written = {(t.get_position(), t.get_text(), t.get_color()) for t in axis.texts}
    assert written == {
        ((1, 0), "1", "black"),
        ((2, 0), "80", "white"),
        ((0, 1), "100", "white"),
        ((2, 1), "72", "black"),
        ((0, 2), "12345", "white"),
        ((1, 2), "-2.5", "black"),
        ((2, 2), "72.1", "white"),
    }
    for text in axis.texts:
        assert (text.get_ha(), text.get_va(), text.get_fontsize()) == ("center", "center", 8)


def test_heat_table_names_its_rows_and_columns():
    plt.rcParams["axes.grid"] = True
    _, axis = plt.subplots()
    figures.heat_table(axis, np.eye(2, 3), ["a", "b"], ["x", "y", "z"], darkest=4)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["x", "y", "z"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert axis.get_xticks().tolist() == [0, 1, 2] and axis.get_yticks().tolist() == [0, 1]
    assert {(t.get_rotation(), t.get_ha()) for t in axis.get_xticklabels()} == {(40, "right")}
    assert not any(line.get_visible() for line in axis.get_xgridlines() + axis.get_ygridlines())
    (image,) = axis.get_images()
    assert image.get_clim() == (0, 4) and image.get_cmap().name == "Blues"
    assert axis.get_aspect() == "auto"
