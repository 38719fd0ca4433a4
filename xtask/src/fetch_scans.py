"""Fetches a pinned source distribution and takes files out of it: fetch_scans.py PACKAGE VERSION SHA256 FOLDER MEMBER...

By the functions of index.py, which stand before this text: pip would build the package only to learn its name. MEMBER is a path
inside the distribution. With the distribution already in FOLDER nothing is downloaded.
"""

import hashlib
import io
import os
import sys
import tarfile


def main(package, version, sha256, folder, members):
    stem = f"{package.replace('-', '_')}-{version}"
    name = stem + ".tar.gz"
    by_hand = os.path.join(folder, name)
    if os.path.exists(by_hand):
        where = by_hand
        with open(by_hand, "rb") as file:
            data = file.read()
    else:
        where = index_url()
        links = [link for link in files_of(package) if os.path.basename(link).lower() in (name, name.replace("_", "-", 1))]
        if not links:
            sys.exit(f"{where} has no {name}")
        data = get(links[0])[1]
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        sys.exit(f"{name} of {where} has sha256 {found}, expected {sha256}")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in members:
            # Nothing is unpacked but the files asked for, and under names of ours.
            matches = [entry for entry in archive.getmembers() if entry.isfile() and entry.name == f"{stem}/{member}"]
            if not matches:
                sys.exit(f"{name} holds no {member}")
            target = os.path.join(folder, os.path.basename(member))
            with open(target + ".new", "wb") as file:
                file.write(archive.extractfile(matches[0]).read())
            os.replace(target + ".new", target)


try:
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
except OSError as error:
    sys.exit(f"fetching failed: {error}")
