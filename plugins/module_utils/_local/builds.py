# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs from published Go modules, built once a version.

A build may be stopped at any moment: Go's own cache keeps every package compiled so far, and the program appears under its
final name by one rename. Modules are checked by Go against its checksum database.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import typing as t
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call, symlink, tail, write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

GO_VERSION = (1, 26)
# A static binary without debug tables or the paths of this machine: it runs in an image that holds nothing else.
GO_FLAGS = ("-trimpath",)
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}


@dataclass(frozen=True)
class Program:
    """One program to build.

    With ``package`` it is that main package of a published module. Without, it is our own ``main.go`` of the directory ``name``
    in the sources, which requires ``modules`` (path: version). With both, our own go.mod requires them: ``go install`` would ask for the
    list of the module's versions first, which not every proxy has. ``staging`` names the one of them whose go.mod replaces its parts by
    directories of its repository; published, the parts of Kubernetes v1.x.y are modules of version v0.x.y.
    ``symbols`` are variables the linker sets, ``tags`` the build constraints, ``names`` the names the program is called by (its own by default).
    ``files`` of the required modules belong to the program: paths in its image, each with module and path (example.org/module/data.json).
    ``replaces`` are modules of another version than those required ask for (path: version), as the go.mod of the program's own module says: ``go install``
    refuses such a module, and a go.mod that requires it does not hear of it.
    ``generated`` are files that the module's own build would have made in it, by module and path, with their text; the module is copied for them.
    ``architecture`` is Go's name of another one than this machine's (arm64), for which it is compiled.
    """

    name: str
    version: str
    package: str = ""
    modules: Mapping[str, str] = field(default_factory=dict)
    staging: str = ""
    symbols: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    generated: Mapping[str, str] = field(default_factory=dict)
    replaces: Mapping[str, str] = field(default_factory=dict)
    architecture: str = ""

    @property
    def file(self) -> str:
        return "-".join(filter(None, (self.name, self.version, self.architecture)))

    @property
    def links(self) -> tuple[str, ...]:
        """None for another architecture: what is called by a name is run here."""
        return () if self.architecture else self.names or (self.name,)

    @classmethod
    def of(cls, name: str, options: Mapping[str, t.Any]) -> Program:
        return cls(
            name=name,
            version=options["version"],
            package=options.get("package") or "",
            modules=dict(options.get("modules") or {}),
            staging=options.get("staging") or "",
            symbols=dict(options.get("symbols") or {}),
            names=tuple(options.get("names") or ()),
            tags=tuple(options.get("tags") or ()),
            files=dict(options.get("files") or {}),
            generated=dict(options.get("generated") or {}),
            replaces=dict(options.get("replaces") or {}),
        )


def staging_version(version: str) -> str:
    """``v1.36.3`` -> ``v0.36.3``."""
    major, _dot, rest = version.removeprefix("v").partition(".")
    if major != "1" or not rest:
        raise PlatformError(f"Kubernetes' version must look like v1.<minor>.<patch>, not {version!r}.")
    return f"v0.{rest}"


def go_mod(name: str, modules: Mapping[str, str], staging: str = "", staging_go_mod: str = "") -> str:
    """The go.mod of one of our own programs; ``staging_go_mod`` is the text of the go.mod of the module ``staging``."""
    lines = [f"module progressive.local/{name}", "", f"go {GO_VERSION[0]}.{GO_VERSION[1]}.0", ""]
    lines += [f"require {path} {version}" for path, version in sorted(modules.items())]
    if staging:
        version = staging_version(modules[staging])
        parts = re.findall(r"^\s*(?:replace\s+)?(\S+)\s+=>\s+\./staging/", staging_go_mod, re.MULTILINE)
        lines += [replaced(path, version).rstrip() for path in parts]
    return "\n".join(lines) + "\n"


def replaced(path: str, version: str) -> str:
    """The line of a go.mod that takes this version of a module, whatever is required."""
    return f"replace {path} => {path} {version}\n"


def link_flags(symbols: Mapping[str, str]) -> str:
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in sorted(symbols.items()))])


def build_command(program: Program, output: Path) -> list[str]:
    """The go command of the last step; ``output`` is a file for our own programs and a directory's ``<last path element>`` otherwise."""
    flags = ["-v", *GO_FLAGS, "-ldflags", link_flags(program.symbols)]
    flags += ["-tags", ",".join(program.tags)] if program.tags else []
    if program.package and program.modules:
        return ["go", "build", *flags, "-mod=mod", "-o", str(output), program.package]
    if program.package:
        return ["go", "install", *flags, f"{program.package}@{program.version}"]
    return ["go", "build", *flags, "-o", str(output), "."]


def check_go() -> None:
    """PlatformError unless there is a Go that can build the programs."""
    if not shutil.which("go"):
        raise PlatformError(
            "Go is wanted to build Kubernetes and other programs, and not in PATH; install Go 1.26 or later, or set local_cluster_provider to kind "
            "or existing and images_bases to references."
        )
    said = call(["go", "env", "GOVERSION"]).strip()
    found = re.match(r"go(\d+)\.(\d+)", said)
    if not found or (int(found[1]), int(found[2])) < GO_VERSION:
        raise PlatformError(f"Go {GO_VERSION[0]}.{GO_VERSION[1]} or later is wanted to build Kubernetes; 'go env GOVERSION' says {said}.")


@dataclass(frozen=True)
class Builder:
    """Builds programs: our own ``main.go`` are in ``sources``, work is done below ``work``, finished programs lie in ``binaries``.

    ``logs`` gets everything Go prints, a file for each program; ``timeout`` is for one program, in seconds.
    """

    sources: Path
    work: Path
    binaries: Path
    logs: Path
    timeout: float = 3600.0

    def has(self, program: Program) -> bool:
        """Whether the program of this very version, and every name it is called by, is there."""
        return (self.binaries / program.file).exists() and all(
            (self.binaries / link).is_symlink() and os.readlink(self.binaries / link) == program.file for link in program.links
        )

    def build(self, program: Program, say: Callable[[str], None]) -> None:
        """Build ``program`` unless it is there; ``say`` is told how far it is."""
        target = self.binaries / program.file
        if not target.exists():
            directory = self.work / program.file
            output = directory / "out" / (program.package.rsplit("/", maxsplit=1)[-1] if program.package else program.name)
            for path in (directory, output.parent, self.binaries, self.logs):
                path.mkdir(parents=True, exist_ok=True)
            with open(self.logs / f"build-{program.file}.log", "w", encoding="utf-8") as log:
                if not program.package:
                    self.prepare(program, directory, log, say)
                elif program.modules:
                    text = go_mod(program.name, program.modules) + "".join(replaced(path, at) for path, at in program.replaces.items())
                    write_atomic(directory / "go.mod", text + self.completed(program, directory))
                made = self.go(build_command(program, output), directory, log, say, program.architecture)
            (made / output.name if made else output).replace(target)
            shutil.rmtree(directory, ignore_errors=True)
        for link in program.links:
            symlink(self.binaries / link, program.file)

    def prepare(self, program: Program, directory: Path, log: t.TextIO, say: Callable[[str], None]) -> None:
        """Write main.go and go.mod of one of our own programs, and let Go complete the requirements."""
        source = self.sources / program.name / "main.go"
        if not source.exists():
            raise PlatformError(f"The program {program.name} names no package, so {source} is wanted, and it is not there.")
        shutil.copy(source, directory / "main.go")
        staging_go_mod = ""
        if program.staging:
            write_atomic(directory / "go.mod", go_mod(program.name, {}))
            wanted = f"{program.staging}@{program.modules[program.staging]}"
            say(f"downloading {wanted}")
            found = self.download(directory, wanted)
            staging_go_mod = Path(found["GoMod"]).read_text(encoding="utf-8")
        write_atomic(directory / "go.mod", go_mod(program.name, program.modules, program.staging, staging_go_mod))
        if program.modules:
            self.go(["go", "mod", "tidy"], directory, log, say)

    def download(self, directory: Path, module: str) -> dict[str, t.Any]:
        """What Go says of a module (path@version) that it has, or now fetches."""
        said = call(["go", "-C", str(directory), "mod", "download", "-json", module], timeout=self.timeout, env=GO_ENVIRONMENT)
        return t.cast("dict[str, t.Any]", json.loads(said))

    def completed(self, program: Program, directory: Path) -> str:
        """Copies of the modules that ``generated`` files belong to, with these; the lines of go.mod that put them in the modules' place."""
        lines = []
        for path, version in program.modules.items():
            files = {name.removeprefix(f"{path}/"): text for name, text in program.generated.items() if name.startswith(f"{path}/")}
            if files:
                write_atomic(directory / "go.mod", go_mod(program.name, {}))
                copy = directory / path.rsplit("/", maxsplit=1)[-1]
                shutil.rmtree(copy, ignore_errors=True)
                # What lies in Go's cache is nobody's to write to.
                shutil.copytree(self.download(directory, f"{path}@{version}")["Dir"], copy, copy_function=shutil.copyfile)
                for folder in (copy, *(found for found in copy.rglob("*") if found.is_dir())):
                    folder.chmod(0o755)
                for name, text in files.items():
                    write_atomic(copy / name, text)
                lines.append(f"replace {path} => ./{copy.name}\n")
        return "".join(lines)

    def files(self, program: Program) -> dict[str, Path]:
        """The program's further files by their paths in its image, as they lie in Go's module cache."""
        found = {}
        for target, source in program.files.items():
            module = next((path for path in program.modules if source.startswith(f"{path}/")), None)
            if module is None:
                raise PlatformError(
                    f"{program.name}: {source} must be in one of the modules {', '.join(program.modules) or 'it requires'}."
                )
            folder = Path(self.download(self.binaries, f"{module}@{program.modules[module]}")["Dir"])
            found[target] = folder / source.removeprefix(f"{module}/")
        return found

    def go(self, command: list[str], directory: Path, log: t.TextIO, say: Callable[[str], None], architecture: str = "") -> Path | None:
        """Run one go command; each line it prints goes to the log, and how far it is to ``say``. The folder that ``go install`` has chosen, if it has."""
        compiled, chosen = 0, None
        own = {"GOBIN": str(directory / "out"), **({"GOARCH": architecture} if architecture else {})}
        if architecture and command[1] == "install":  # with GOBIN it refuses to install what this machine cannot run
            own |= {"GOBIN": "", "GOPATH": str(directory / "path"), "GOMODCACHE": call(["go", "env", "GOMODCACHE"]).strip()}
            chosen = directory / "path/bin" / f"linux_{architecture}"
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        process = subprocess.Popen(
            # A run that is killed takes its build with it, or the next run would compile beside the last one's orphan.
            ["setpriv", "--pdeathsig", "TERM", "timeout", "--kill-after=5", str(int(self.timeout)), *command],
            cwd=directory,
            env={**os.environ, **GO_ENVIRONMENT, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            for line in process.stdout or ():
                log.write(line)
                log.flush()
                if line.startswith("go: downloading"):
                    say(line.removeprefix("go: ").strip())
                elif re.fullmatch(r"[\w.~/-]+\n", line):
                    compiled += 1
                    say(f"{compiled} packages compiled, now {line.strip()}")
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait(timeout=10)
            raise
        if code:
            limit = f" (stopped after {self.timeout:g} s)" if code == 124 else ""
            raise PlatformError(
                f"'{' '.join(command)}' ended with code {code}{limit}; its last lines, all of them in {log.name}:\n{tail(Path(log.name))}"
            )
        return chosen
