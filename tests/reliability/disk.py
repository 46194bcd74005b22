"""A disk made of what strace saw of a program: what is certainly on it at a moment, and what may be.

A write is certain when a sync of its file has ended that began after it; a name, when a sync of its folder has. Whatever came
later may be there or not: of a write each sector for itself, of names each change for itself.
"""

import os
import re

SECTOR = 512
CALLS = (
    "openat,creat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync_file_range,ftruncate,fallocate,rename,renameat,"
    "renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,lseek,link,linkat,copy_file_range,sendfile,splice"
)
# Longer than any write.
SHOWN_BYTES = 64 << 20
LINE = re.compile(r"^(\d+) +(\d+\.\d+) (.*)$", re.S)
ON = re.compile(r"^(\d+)<([^>]*)>")


def strace(into):
    """The command before the one that is to be watched."""
    # -D: strace is a grandchild, so that signals reach the program
    return ["strace", "-D", "-f", "-y", "-ttt", "-s", str(SHOWN_BYTES), "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(into)]


def calls(trace):
    """(when it began, when it had ended, name, arguments, result) of each call, in the order of their ends; and before that
    (when, None, name, arguments, None) when it begins. Lines are bytes in latin-1."""
    open_calls = {}
    with open(trace, encoding="latin-1", newline="\n") as lines:
        for line in lines:
            if not (found := LINE.match(line.rstrip("\n"))):
                continue
            thread, when, rest = found[1], float(found[2]), found[3]
            if rest.endswith("<unfinished ...>"):
                begun = rest[: -len("<unfinished ...>")].rstrip()
                open_calls[thread] = (when, begun)
                name, _, arguments = begun.partition("(")
                yield when, None, name, arguments, None
                continue
            if rest.startswith("<... "):
                if thread not in open_calls:
                    continue
                began, begun = open_calls.pop(thread)
                rest = begun + rest.split("resumed>", 1)[1]
            else:
                began = when
                if "(" in rest and not rest.startswith(("+++", "---")):
                    name, _, arguments = rest.partition("(")
                    yield when, None, name, arguments, None
            call, _, result = rest.rpartition(" = ")
            if not call.rstrip().endswith(")"):
                continue
            name, _, arguments = call.rstrip()[:-1].partition("(")
            yield began, when, name, arguments, result


def text_of(quoted):
    """The bytes of a text as strace shows them, and what follows it."""
    at = 1
    while quoted[at] != '"':
        at += 2 if quoted[at] == "\\" else 1
    rest = quoted[at + 1 :]
    if rest.startswith("..."):
        raise ValueError("strace has cut a text short")
    return quoted[1:at].encode("latin-1").decode("unicode_escape").encode("latin-1"), rest


class File:
    def __init__(self, durable=b""):
        self.durable = bytearray(durable)
        # (offset, bytes), or (length, None) for a new length
        self.pending = []
        self.length = len(durable)

    def write(self, offset, data):
        self.pending.append((offset, data))
        self.length = max(self.length, offset + len(data))

    def cut(self, length):
        self.pending.append((length, None))
        self.length = length

    def sync(self, count):
        """The first so many pending changes are certain."""
        for change in self.pending[:count]:
            apply(self.durable, *change)
        del self.pending[:count]


def apply(content, offset, data):
    if data is None:
        if offset < len(content):
            del content[offset:]
        else:
            content.extend(bytes(offset - len(content)))
        return
    if offset + len(data) > len(content):
        content.extend(bytes(offset + len(data) - len(content)))
    content[offset : offset + len(data)] = data


class Disk:
    """Below one folder. Paths are relative to it."""

    def __init__(self, root, start=None):
        self.root = os.path.abspath(root)
        self.files = {}
        self.folders = {""}
        # names as they are for the program, and as they certainly are
        self.names, self.durable = {}, {}
        # (path, what it stands for from now on or None)[]
        self.changes = []
        self.positions = {}
        self.syncing = {}
        self.inode = 0
        if start:
            self._load(start)

    def _load(self, start):
        for folder, folders, files in os.walk(start):
            below = os.path.relpath(folder, start)
            below = "" if below == "." else below + "/"
            for name in folders:
                self.names[below + name] = self.durable[below + name] = "folder"
            for name in files:
                with open(os.path.join(folder, name), "rb") as file:
                    self._new(below + name, file.read())
                self.durable[below + name] = self.names[below + name]

    def _new(self, path, content=b""):
        self.inode += 1
        self.files[self.inode] = File(content)
        self.names[path] = self.inode

    def _change(self, *changes):
        for path, to in changes:
            if to is None:
                self.names.pop(path, None)
            else:
                self.names[path] = to
        self.changes.append(changes)

    def _path(self, text, base=None):
        path = os.path.normpath(os.path.join(base or self.base, text))
        if path == self.root:
            return ""
        return path[len(self.root) + 1 :] if path.startswith(self.root + "/") else None

    def _file(self, path):
        inode = self.names.get(path)
        return self.files.get(inode), inode

    def take(self, began, ended, name, arguments, result):
        """Does what a call did. False: it is a call that this disk does not know and that would have changed it."""
        is_begin = ended is None
        if name in ("fsync", "fdatasync"):
            if not (on := ON.match(arguments)) or (path := self._path(on[2])) is None:
                return
            file, inode = self._file(path)
            key = (name, arguments.split(">")[0], inode)
            if is_begin:
                self.syncing[key] = (len(file.pending) if file else 0, len(self.changes), path)
            elif result.startswith("0") and key in self.syncing:
                count, _, path = self.syncing.pop(key)
                if file:
                    file.sync(count)
                else:
                    self._sync_folder(path)
            return
        if is_begin or result is None or result.startswith("-1") or result.startswith("?"):
            return
        if name in ("write", "pwrite64", "ftruncate", "lseek", "sync_file_range", "fallocate", "writev", "pwritev", "pwritev2"):
            self._on_file(name, arguments, result)
        elif name in ("openat", "creat"):
            self._open(arguments, result)
        elif name in ("rename", "renameat", "renameat2"):
            old, new = [self._path(path, base) for path, base in paths(arguments, self.base)]
            if old is not None and new is not None:
                moved = [(path, what) for path, what in list(self.names.items()) if path.startswith(old + "/")]
                inner = [change for path, what in moved for change in ((path, None), (new + path[len(old) :], what))]
                self._change((old, None), (new, self.names[old]), *inner)
        elif name in ("unlink", "unlinkat", "rmdir"):
            [(path, base)] = paths(arguments, self.base)
            if (path := self._path(path, base)) is not None:
                self._change((path, None))
        elif name in ("mkdir", "mkdirat"):
            [(path, base)] = paths(arguments, self.base)
            if (path := self._path(path, base)) is not None and path:
                self._change((path, "folder"))
        elif name in ("link", "linkat", "copy_file_range", "sendfile", "splice") and self.root in arguments:
            raise ValueError(f"the disk does not know {name}")

    def _open(self, arguments, result):
        [(path, base)] = paths(arguments, self.base)
        path = self._path(path, base)
        if path is None or not path:
            return
        if "O_CREAT" in arguments and path not in self.names:
            self.inode += 1
            self.files[self.inode] = File()
            self._change((path, self.inode))
        file, inode = self._file(path)
        if file and "O_TRUNC" in arguments and file.length:
            file.cut(0)
        self.positions[result.split("<")[0]] = 0

    def _on_file(self, name, arguments, result):
        on = ON.match(arguments)
        if not on or (path := self._path(on[2].removesuffix(" (deleted)"))) is None:
            return
        file, _ = self._file(path)
        if file is None:
            return
        rest = arguments[on.end() + 2 :]
        number = on[1]
        if name == "pwrite64":
            data, rest = text_of(rest)
            offset = int(rest.rsplit(",", 1)[1])
            file.write(offset, data[: int(result)])
        elif name == "write":
            data, _ = text_of(rest)
            at = self.positions.get(number, 0)
            file.write(at, data[: int(result)])
            self.positions[number] = at + int(result)
        elif name == "lseek":
            self.positions[number] = int(result)
        elif name == "ftruncate":
            if (length := int(rest)) != file.length:
                file.cut(length)
        elif name == "fallocate":
            mode, offset, length = [part.strip() for part in rest.split(",")]
            if mode == "0" and int(offset) + int(length) > file.length:
                file.cut(int(offset) + int(length))
        elif name in ("writev", "pwritev", "pwritev2"):
            raise ValueError(f"the disk does not know {name}")

    def _sync_folder(self, folder):
        kept = []
        for change in self.changes:
            # in a file system with a journal a change that concerns two folders is durable with either
            if any(os.path.dirname(path) == folder for path, _ in change):
                self._make_durable(change)
            else:
                kept.append(change)
        self.changes = kept

    def _make_durable(self, change, names=None):
        names = self.durable if names is None else names
        for path, to in change:
            if to is None:
                names.pop(path, None)
            else:
                names[path] = to

    def after_cut(self, into, chance):
        """Makes a folder of what may be there when the power goes now."""
        fate = chance.choice(["lost", "kept", "torn"])
        names = dict(self.durable)
        for change in self.changes:
            if fate == "kept" or (fate == "torn" and chance.random() < 0.5):
                self._make_durable(change, names)
        folders = {path for path, what in names.items() if what == "folder"} | {""}
        os.makedirs(into, exist_ok=True)
        for path in sorted(folders - {""}):
            if all(parent in folders for parent in parents(path)):
                os.makedirs(os.path.join(into, path), mode=0o700, exist_ok=True)
        for path, inode in names.items():
            if inode == "folder" or not all(parent in folders for parent in parents(path)):
                continue
            content = self._content(self.files[inode], chance)
            with open(os.path.join(into, path), "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                write_sparse(file, content)

    def _content(self, file, chance):
        if not file.pending:
            return file.durable
        content = bytearray(file.durable)
        fate = chance.choice(["lost", "kept", "torn", "torn"])
        for offset, data in file.pending:
            if fate == "lost":
                break
            if fate == "kept" or data is None:
                if fate == "kept" or chance.random() < 0.5:
                    apply(content, offset, data)
                continue
            at = 0
            while at < len(data):
                part = min(SECTOR - (offset + at) % SECTOR, len(data) - at)
                if chance.random() < 0.5:
                    apply(content, offset + at, data[at : at + part])
                at += part
        return content


def parents(path):
    parent = os.path.dirname(path)
    while parent:
        yield parent
        parent = os.path.dirname(parent)


def paths(arguments, base):
    """The paths among the arguments of a call, each with the folder that it is relative to."""
    found, rest, relative = [], arguments, base
    while rest:
        rest = rest.lstrip(", ")
        if rest.startswith('"'):
            path, rest = text_of(rest)
            found.append((path.decode(), relative))
            relative = base
        elif rest.startswith("AT_FDCWD"):
            # with the folder itself in angle brackets, in newer versions of strace
            rest = rest.split(",", 1)[1] if "," in rest else ""
        elif (on := ON.match(rest)) and len(found) < 2:
            relative, rest = on[2], rest[on.end() :]
        else:
            return found
    return found


def write_sparse(file, content, block=1 << 16):
    view, zeros = memoryview(content), bytes(block)
    for at in range(0, len(view), block):
        part = view[at : at + block]
        if part != zeros[: len(part)]:
            file.seek(at)
            file.write(part)
    file.truncate(len(view))
