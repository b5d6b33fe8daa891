"""The code that a reader sees in a lesson, for unit tests to exercise."""

import ast
from pathlib import Path
from types import SimpleNamespace

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
DEFINING = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def cells(name: str, folder: Path = NOTEBOOKS) -> list[str]:
    """The sources of a lesson's code cells, in order.

    `name` is the notebook's name without ending, `12_cnn_math`, or `solutions/12_cnn_math`. An
    unknown name is a ValueError that lists the lessons.
    """
    path = folder / f"{name}.ipynb"
    if not path.is_file():
        lessons = sorted(p.relative_to(folder).with_suffix("") for p in folder.rglob("*.ipynb"))
        known = ", ".join(p.as_posix() for p in lessons if ".ipynb_checkpoints" not in p.parts)
        raise ValueError(f"no lesson {name!r} in notebooks/: there are {known or 'none'}")
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def is_constant(statement: ast.stmt) -> bool:
    """Whether a statement gives literals to plain names, as in `BITS = 8` or `H, W = 28, 28`."""
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    elif isinstance(statement, ast.Assign):
        targets = statement.targets
    else:
        return False
    names = [n for t in targets for n in (t.elts if isinstance(t, ast.Tuple | ast.List) else [t])]
    if statement.value is None or not all(isinstance(n, ast.Name) for n in names):
        return False
    try:
        ast.literal_eval(statement.value)
    except ValueError:
        return False
    return True


def definitions(name: str, folder: Path = NOTEBOOKS) -> SimpleNamespace:
    """What a lesson defines: imports, constants, functions and classes, and nothing that it runs.

    Later cells replace the names of earlier ones, as in the notebook. IPython magics are left out.
    A function that needs a name which the lesson computes raises NameError when it is called: give
    it one with `lesson.__globals__["name"] = value`.
    """
    module = f"lesson_{Path(name).name}"
    names: dict[str, object] = {"__name__": module, "__doc__": f"Definitions of {name}."}
    transform = TransformerManager().transform_cell
    for number, source in enumerate(cells(name, folder), 1):
        where = f"{name}.ipynb, code cell {number}"
        if source.lstrip().startswith("%%"):
            continue
        try:
            tree = ast.parse(transform(source), where)
        except SyntaxError as error:
            raise ValueError(f"{where} is not Python: {error}") from error
        kept = [s for s in tree.body if isinstance(s, DEFINING) or is_constant(s)]
        code = compile(ast.Module(kept, []), where, "exec", dont_inherit=True)
        try:
            exec(code, names)
        except Exception as error:
            raise ValueError(
                f"{where} defines something that needs what only running the lesson computes: "
                f"{type(error).__name__}: {error}"
            ) from error
    public = {key: value for key, value in names.items() if not key.startswith("__")}
    return SimpleNamespace(**public, __globals__=names)
