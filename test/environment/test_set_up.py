"""The set-up finds out early what is missing, says it in one line, and repairs what was interrupted."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "environment"))

import problems  # noqa: E402
import set_up  # noqa: E402


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/home/ann/my code/clone", "a space"),
        ("/home/ann/a:b", "the character ':'"),
        ("/home/ann/$x", "the character '$'"),
    ],
)
def test_paths_that_tools_take_apart_are_refused(path, words):
    with pytest.raises(problems.SetUpError, match="move the clone") as caught:
        problems.check_path(Path(path))
    assert words in str(caught.value)


@pytest.mark.parametrize("path", ["/home/ann/rt_panoptic", "/opt/straßen-α/v1.2+x/@a"])
def test_ordinary_paths_are_taken(path):
    problems.check_path(Path(path))


def test_a_path_that_is_no_utf_8_is_refused():
    with pytest.raises(problems.SetUpError, match=r"is no UTF-8.*move the clone.*C\.UTF-8"):
        problems.check_path(Path(os.fsdecode(b"/home/ann/stra\xdfe")))


@pytest.mark.parametrize("name", ["../../../evil x", "jazzy/", "wheels-", "..", "žába"])
def test_what_is_no_name_of_a_distribution_is_refused(name, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", name)
    with pytest.raises(problems.SetUpError, match="unset ROS_DISTRO") as caught:
        set_up.set_up("use")
    assert name in str(caught.value)


def test_a_distribution_that_is_not_there_is_refused_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    with pytest.raises(problems.SetUpError, match=r"install it and source .*, or unset ROS_DISTRO"):
        problems.check_sourced("utopian")
    index = tmp_path / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "rclpy").touch()
    problems.check_sourced("utopian")
    monkeypatch.delenv("AMENT_PREFIX_PATH")
    problems.check_sourced(None)
    with pytest.raises(problems.SetUpError, match="is not there"):
        problems.check_sourced("utopian")


def test_a_machine_without_wheels_needs_an_installation(monkeypatch):
    monkeypatch.setattr(problems.platform, "machine", lambda: "aarch64")
    with pytest.raises(problems.SetUpError, match=r"x86_64 only.*install\s+ROS 2"):
        problems.check_platform(None)
    problems.check_platform("jazzy")


def test_missing_parts_are_named_together_with_their_packages(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(problems.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setitem(sys.modules, "ensurepip", None)  # as where Debian left it out
    with pytest.raises(problems.SetUpError) as caught:
        problems.check_parts()
    line = str(caught.value)
    assert "a C++ compiler" in line
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert line.endswith(f"sudo apt install g++ {python}-dev {python}-venv)")


def test_a_machine_with_all_parts_is_taken(monkeypatch, tmp_path):
    compiler = tmp_path / "g++"
    compiler.touch(0o755)
    (tmp_path / "Python.h").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(problems.sysconfig, "get_path", lambda _: str(tmp_path))
    problems.check_parts()
    monkeypatch.setenv("CXX", "  ")
    problems.check_parts()
    monkeypatch.setenv("CXX", "clang++-99")
    with pytest.raises(problems.SetUpError, match="CXX names 'clang\\+\\+-99'"):
        problems.check_parts()


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path):
    with pytest.raises(problems.SetUpError, match=r"are free under .* make room"):
        problems.check_disk(tmp_path / "not" / "there", 10**18)
    problems.check_disk(tmp_path, 1)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "the disk is full"),
        ("...Failed to establish a new connection: NewConnectionError(...)", "cannot be reached"),
        ("socket.gaierror: Temporary failure in name resolution", "cannot be reached"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no torch==2.13.0 for this"),
        (
            "NewConnectionError ... SSLError(SSLCertVerificationError(1, '[SSL: "
            "CERTIFICATE_VERIFY_FAILED] certificate verify failed'))",
            "PIP_CERT",
        ),
        ("x.c:1:10: fatal error: Python.h: No such file or directory", "python3-dev"),
        ("g++: fatal error: Killed signal terminated program cc1plus", "memory ran out"),
    ],
)
def test_known_failures_become_one_line_with_the_way_out(output, words):
    line = problems.explain(f"much\nmore\n{output}\nand more")
    assert words in line
    assert "\n" not in line


def test_unknown_failures_are_left_to_the_log():
    assert problems.explain("something nobody has seen before") is None


def test_modules_of_the_user_are_kept_out(environment, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lines = []
    words = "import os; print(os.environ.get('PYTHONPATH'))"
    environment.call("pip", [sys.executable, "-c", words], lines.append)
    assert "None" in lines
    set_up.point_cmake_at_this_python(tmp_path, Path(sys.executable))


def test_cmake_files_are_pointed_at_this_python(tmp_path):
    import sysconfig

    import numpy

    folder = tmp_path / "share" / "std_msgs" / "cmake"
    folder.mkdir(parents=True)
    file = folder / "export.cmake"
    file.write_text(
        'INTERFACE_INCLUDE_DIRECTORIES "/opt/python/cp312-cp312/include/python3.12;'
        '/opt/python/cp312-cp312/lib/python3.12/site-packages/numpy/_core/include;/usr/x"'
    )
    set_up.point_cmake_at_this_python(tmp_path, Path(sys.executable))
    expected = f"{sysconfig.get_path('include')};{numpy.get_include()};/usr/x"
    assert file.read_text() == f'INTERFACE_INCLUDE_DIRECTORIES "{expected}"'


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment of a package of nothing but its list of requirements, all steps done."""
    monkeypatch.setattr(set_up, "ROOT", tmp_path)
    monkeypatch.setattr(set_up, "REQUIREMENTS", tmp_path / "requirements")
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "constraints.txt").write_text("torch==2.13.0\nnumpy==2.4.6\n")
    (tmp_path / "msg").mkdir()
    (tmp_path / "msg" / "A.msg").write_text("int32 a\n")
    made = set_up.Environment("use")
    made._nvidia = False
    made.python.parent.mkdir(parents=True)
    made.python.symlink_to(sys.executable)
    keys = {
        "python": made.python_key(),
        "packages-use": made.packages_key("use"),
        "build": made.build_key(),
    }
    made.install.mkdir(parents=True)
    for step, key in keys.items():
        with made.renewing(step, key):
            pass
    assert _steps(made) == []
    return made


def _steps(environment) -> list[str]:
    return [title.split()[0] + title.split()[1] for title, _ in environment.missing()]


def test_a_changed_pin_installs_again(environment):
    (set_up.REQUIREMENTS / "constraints.txt").write_text("torch==2.14.0\n")
    assert "Pythonpackages" in _steps(environment)


def test_a_changed_message_only_builds_again(environment):
    (set_up.ROOT / "msg" / "A.msg").write_text("int64 a\n")
    assert _steps(environment) == ["ROSmessages"]


def test_an_interrupted_step_is_done_again(environment):
    def interrupted():
        with environment.renewing("packages-use", environment.packages_key("use")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert _steps(environment) == ["Pythonpackages"]


def test_a_lost_interpreter_begins_anew(environment):
    environment.python.unlink()
    assert _steps(environment) == ["Pythonenvironment", "Pythonpackages", "ROSmessages"]


def test_lost_messages_are_built_again(environment):
    environment.install.rmdir()
    assert _steps(environment) == ["ROSmessages"]


def _wheel(folder: Path, name: str) -> Path:
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return path


def test_what_pip_did_not_finish_is_forgotten(tmp_path):
    done, half = _wheel(tmp_path, "done"), _wheel(tmp_path, "half")
    site = tmp_path / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, f"--target={site}", str(done)], check=True, timeout=120)
    # Broken off, pip leaves what it had unpacked of the wheel: all, in the worst case.
    with zipfile.ZipFile(half) as archive:
        archive.extractall(site)
    (site / "~orch").mkdir()
    set_up.forget_half_installed(site)
    assert [path.name for path in site.glob("*.dist-info")] == ["done-1.0.dist-info"]
    assert not (site / "~orch").exists()


def test_what_a_killed_set_up_started_keeps_others_out_until_it_ends(environment, tmp_path):
    folder, pipe = tmp_path / "e", tmp_path / "pipe"
    os.mkfifo(pipe)
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts' / 'environment')!r})\n"
        "import pathlib, set_up\n"
        "environment = set_up.Environment('use')\n"
        "environment.folder, environment.log, pipe = map(pathlib.Path, sys.argv[1:])\n"
        "with set_up.only_one(environment.folder) as environment.lock:\n"
        "    environment.call('pip', ['cat', str(pipe)], lambda line: None)\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(folder / "log"), str(pipe)]
    with subprocess.Popen(command) as killed:
        with pipe.open("w"):  # Opens when `cat` has opened its end: it runs then.
            killed.kill()
            killed.wait()
            with (folder / "lock").open() as lock, pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with set_up.only_one(folder):  # Comes in when `cat` has ended.
            pass


def test_a_moved_clone_begins_anew(environment, monkeypatch, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / ".environment").rename(moved / ".environment")
    monkeypatch.setattr(set_up, "ROOT", moved)
    assert len(_steps(set_up.Environment("use"))) == 3


def test_the_development_level_holds_what_use_needs(environment):
    (environment.folder / "packages-use.key").unlink()
    assert _steps(environment) == ["Pythonpackages"]
    with environment.renewing("packages-development", environment.packages_key("development")):
        pass
    assert _steps(environment) == []


def test_with_a_gpu_the_cpu_build_is_ruled_out(environment):
    assert "torch==2.13.0,!=2.13.0+cpu\n" in environment.constraints(cuda=True)
    assert "torch==2.13.0\n" in environment.constraints(cuda=False)


def test_the_numpy_of_an_older_ros_is_kept(environment, monkeypatch):
    environment.ros = "jazzy"
    monkeypatch.setattr(set_up, "system_numpy_is_1", lambda: True)
    pins = environment.constraints(cuda=False).splitlines()
    assert {"numpy==1.26.4", "opencv-python-headless==4.11.0.86", "ml-dtypes==0.5.4"} <= {*pins}
    assert "numpy==2.4.6" not in pins


def test_launch_files_of_an_installed_ros_run_on_this_environment(
    environment, tmp_path, monkeypatch
):
    for path in ("system/bin/ros2", "path/ros2cli/cli.py", "path/rt_panoptic_ros/msg/__init__.py"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch(0o755)
    (tmp_path / "path/ros2cli/cli.py").write_text(
        "import sys\ndef main(): print(sys.executable, sys.argv[1:]); return 3\n"
    )
    monkeypatch.setenv("PATH", str(tmp_path / "system/bin"))
    environment.ros = "jazzy"
    environment.install = tmp_path / "path"
    environment.write_activation()
    command = [environment.prefix / "bin" / "ros2", "launch"]
    answer = subprocess.run(
        command,
        env={"PYTHONPATH": str(tmp_path / "path")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.stdout == f"{environment.python} ['launch']\n"
    assert answer.returncode == 3


def test_a_second_set_up_waits_for_the_first(tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'scripts' / 'environment')!r})\n"
        "import pathlib, set_up\n"
        "with set_up.only_one(pathlib.Path(sys.argv[1])): print('in', flush=True); input()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "e")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with (
        subprocess.Popen(command, text=True, **pipes) as first,
        subprocess.Popen(command, text=True, **pipes) as second,
    ):
        # One of the two is in; the other says that it waits, and comes in when the first leaves.
        ready = {first: first.stdout, second: second.stdout}
        import select

        readable, _, _ = select.select(list(ready.values()), [], [], 30)
        holder = first if first.stdout in readable else second
        waiter = second if holder is first else first
        assert holder.stdout.readline() == "in\n"
        assert "waiting" in waiter.stderr.readline()
        holder.communicate("\n", timeout=30)
        assert waiter.stdout.readline() == "in\n"
        waiter.communicate("\n", timeout=30)


def _source_env(tmp_path, **variables) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", f". {ROOT}/scripts/env.sh; echo status $?"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("version", ["3.8.1", "3.14.0"])
def test_a_python_that_does_not_fit_is_named(tmp_path, version):
    other = tmp_path / "other-python"
    # Runs as the real one does, but for what it says of its version.
    said = version.replace(".", ", ")
    other.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo Python {version} && exit\n'
        f'exec {sys.executable} -c "import sys; sys.version_info = ({said})\n$2"\n'
    )
    other.chmod(0o755)
    answer = _source_env(tmp_path, PANOPTIC_PYTHON=str(other))
    assert f"no Python 3.10 to 3.13 found ({other} is Python {version})" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert answer.stdout == "status 1\n"


def test_a_machine_without_python_says_so(tmp_path):
    answer = _source_env(tmp_path, PANOPTIC_PYTHON="python3.99")
    assert "no Python 3.10 to 3.13 found (python3.99 is not there)" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert answer.stdout == "status 1\n"


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/test", ".ci/run"])
def test_scripts_are_found_through_links(tmp_path, script):
    (tmp_path / "link").symlink_to(ROOT / script)
    answer = subprocess.run(
        [tmp_path / "link"],
        env={"PATH": "/usr/bin:/bin", "PANOPTIC_PYTHON": "python3.99"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 1
    # Said by the last one in the chain.
    (line,) = answer.stderr.splitlines()
    assert line.startswith("rt_panoptic set-up: no Python 3.10 to 3.13 found (python3.99")


def test_a_clone_below_a_folder_with_a_space_is_refused_in_one_line(tmp_path):
    import shutil

    clone = tmp_path / "my code"
    shutil.copytree(ROOT / "scripts", clone / "scripts")
    answer = subprocess.run(
        ["/bin/bash", "-c", '. "$0/scripts/env.sh"; echo status $?', str(clone)],
        env={**os.environ, "PANOPTIC_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "has a space in it" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert answer.stdout == "status 1\n"
    assert not (clone / ".environment").exists()
