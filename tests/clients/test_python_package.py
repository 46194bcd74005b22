"""The Python package as it is handed out: what is in the wheel, whether its types hold, and that both clients are the same."""

import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

# In a process of its own, because a module beside this one has the name of the package.
SAME_CALLS = """
import inspect
from stentor import AsyncStentor, Stentor

def calls(client):
    methods = inspect.getmembers(client, inspect.isfunction)
    told = lambda method: [(each.name, each.kind, each.default) for each in inspect.signature(method).parameters.values()]
    return {name: told(method) for name, method in methods if not name.startswith("_")}

threads, loop = calls(Stentor), calls(AsyncStentor)
loop["close"] = loop.pop("aclose")
assert len(threads) > 20 and threads == loop, (threads, loop)
"""

PACKAGE = Path(__file__).resolve().parents[2] / "clients/python"


def run(*command, cwd=PACKAGE):
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=150)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")


class PythonPackage(unittest.TestCase):
    def test_the_wheel_has_the_modules_their_types_and_the_licences(self):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source"
            run("-c", f"import shutil; shutil.copytree('.', {str(source)!r}, ignore=shutil.ignore_patterns('build', '*.egg-info'))")
            run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ".", cwd=source)
            [wheel] = Path(folder).glob("*.whl")
            names = zipfile.ZipFile(wheel).namelist()
        modules = [f"stentor/{path.name}" for path in (PACKAGE / "src/stentor").iterdir() if path.suffix in (".py", ".typed")]
        self.assertIn("stentor/py.typed", modules)
        self.assertLessEqual(set(modules), set(names))
        self.assertTrue(any(name.endswith("licenses/LICENSE-MIT") for name in names), names)

    def test_its_types_hold(self):
        run("-m", "mypy", "--strict", "--no-incremental", "src/stentor")

    def test_the_clients_for_threads_and_for_asyncio_are_called_in_the_same_way(self):
        run("-B", "-c", SAME_CALLS, cwd=PACKAGE / "src")


if __name__ == "__main__":
    unittest.main()
