"""Prints what is at the given paths below a root, line by line: everything that an image keeps of a file.

With SECONDS=1 in the environment, times are told in whole seconds."""
import hashlib
import os
import stat
import sys

unit = 10**9 if os.environ.get("SECONDS") else 1
root, names = sys.argv[1].encode(), [name.encode() for name in sys.argv[2:]]
first = {}


def show(path):
    full = os.path.join(root, path)
    info = os.lstat(full)
    kind = stat.S_IFMT(info.st_mode)
    facts = [oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns // unit]
    if kind == stat.S_IFREG:
        with open(full, "rb") as file:
            facts += [info.st_size, hashlib.sha256(file.read()).hexdigest()]
    elif kind == stat.S_IFLNK:
        facts.append(os.readlink(full))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        facts.append(info.st_rdev)
    if kind != stat.S_IFDIR:
        facts.append(first.setdefault((info.st_dev, info.st_ino), path))
    for key in sorted(os.listxattr(full, follow_symlinks=False)):
        if not key.startswith(("trusted.overlay.", "security.selinux")):
            facts += [key, os.getxattr(full, key, follow_symlinks=False)]
    print(path, *facts)
    if kind == stat.S_IFDIR:
        for name in sorted(os.listdir(full)):
            show(os.path.join(path, name))


for name in names:
    show(name)
