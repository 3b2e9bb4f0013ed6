"""The command `lth`: a module of a name that no other file has, so that a `flows.py` of a user's is found out."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def main() -> None:
    """The command line, or one line that says who hides one of its packages."""
    # By its place: under its name there may be another.
    spec = spec_from_file_location("lth_import_path", Path(__file__).resolve().parent / "flows" / "import_path.py")
    assert spec is not None and spec.loader is not None
    import_path = module_from_spec(spec)
    spec.loader.exec_module(import_path)
    import_path.check()
    from flows.cli import main as command

    command()


if __name__ == "__main__":
    main()
