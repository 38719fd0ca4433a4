"""Fetches pinned wheels and takes programs out of them: fetch_wheels.py REQUIREMENTS BIN TOOL...

With pip where there is one; else from the index that pip is configured with, by the functions of index.py, which stand before
this text. Either way each file must have its pinned sha256.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile

PLATFORM = "manylinux_2_17_x86_64"


def pinned(requirements):
    """Package, version and sha256 of each line."""
    with open(requirements) as lines:
        return [re.fullmatch(r"(\S+)==(\S+) --hash=sha256:(\w+)", line.strip()).groups() for line in lines if line.strip()]


def with_pip(requirements, folder):
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        return False
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--platform", PLATFORM, "--dest", folder, "--requirement", requirements]
    return subprocess.run(command).returncode == 0


def with_urllib(pins, folder):
    for package, version, sha256 in pins:
        stem = package.replace("-", "_") + "-" + version + "-"
        links = files_of(package)
        wheels = [link for link in links if os.path.basename(link).startswith(stem) and link.endswith(PLATFORM + ".whl")]
        if not wheels:
            sys.exit(f"{index_url()} has no {package} {version} for {PLATFORM}")
        with open(os.path.join(folder, os.path.basename(wheels[0])), "wb") as file:
            file.write(get(wheels[0])[1])


def main(requirements, target, tools):
    pins = pinned(requirements)
    with tempfile.TemporaryDirectory() as folder:
        if not with_pip(requirements, folder):
            with_urllib(pins, folder)
        hashes = {sha256 for _, _, sha256 in pins}
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found = hashlib.sha256(file.read()).hexdigest()
            if found not in hashes:
                sys.exit(f"{name} has sha256 {found}, which is not pinned")
            with zipfile.ZipFile(path) as wheel:
                for member in wheel.namelist():
                    tool = os.path.basename(member)
                    if tool in tools and member.endswith("/bin/" + tool):
                        # By rename, so that a program in use or a cut-off write does no harm.
                        fresh = os.path.join(target, tool + ".new")
                        with open(fresh, "wb") as file:
                            file.write(wheel.read(member))
                        os.chmod(fresh, 0o755)
                        os.replace(fresh, os.path.join(target, tool))


try:
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
except OSError as error:
    sys.exit(f"fetching failed: {error}")
