"""Attributes: modes, owners, times, extended attributes, special files, statfs."""
import errno
import os
import socket
import stat
import time

from checklib import as_user, check, equal, fails, read, write

USER = 4321


@check
def modes(at):
    for path in (at.low('a.txt'), at.low('sub'), at.path('f')):
        if path.endswith('f'):
            write(path, b'')
        for mode in (0o600, 0o4755, 0o2755, 0o1777, 0o000, 0o644):
            os.chmod(path, mode)
            equal(os.stat(path).st_mode & 0o7777, mode)
    fd = os.open(at.low('b.txt'), os.O_RDONLY)
    os.fchmod(fd, 0o611)
    equal(os.fstat(fd).st_mode & 0o7777, 0o611)
    equal(os.stat(at.low('b.txt')).st_mode & 0o7777, 0o611)
    os.close(fd)


@check
def umask(at):
    old = os.umask(0o027)
    try:
        fd = os.open(at.path('f'), os.O_CREAT | os.O_WRONLY, 0o666)
        os.close(fd)
        os.mkdir(at.path('d'), 0o777)
        os.mkfifo(at.path('p'), 0o666)
    finally:
        os.umask(old)
    equal([os.stat(at.path(n)).st_mode & 0o7777 for n in 'fdp'], [0o640, 0o750, 0o640])


@check
def owners(at):
    os.chown(at.low('a.txt'), USER, 5)
    st = os.stat(at.low('a.txt'))
    equal((st.st_uid, st.st_gid), (USER, 5))
    os.chown(at.low('a.txt'), -1, 6)
    st = os.stat(at.low('a.txt'))
    equal((st.st_uid, st.st_gid), (USER, 6))
    os.lchown(at.low('link'), 7, 8)
    st = os.lstat(at.low('link'))
    equal((st.st_uid, st.st_gid), (7, 8))
    equal(os.stat(at.low('a.txt')).st_uid, USER)
    os.chown(at.low('sub'), USER, USER)
    os.chmod(at.low('sub'), 0o755)

    def work():
        write(at.low('sub', 'mine'), b'mine')
        st = os.stat(at.low('sub', 'mine'))
        equal((st.st_uid, st.st_gid), (USER, USER))
        fails(errno.EACCES, os.open, at.low('b.txt'), os.O_WRONLY)
        fails(errno.EACCES, os.open, at.low('new'), os.O_CREAT | os.O_WRONLY)
        fails(errno.EACCES, os.unlink, at.low('b.txt'))
        fails(errno.EPERM, os.chmod, at.low('b.txt'), 0o777)
        fails(errno.EPERM, os.chown, at.low('sub', 'mine'), 0, 0)
        equal(os.access(at.low('b.txt'), os.W_OK), False)
        equal(os.access(at.low('b.txt'), os.R_OK), True)

    as_user(USER, work)


@check
def directory_gives_its_group(at):
    os.chown(at.low('sub'), 0, 55)
    os.chmod(at.low('sub'), 0o2775)
    write(at.low('sub', 'f'), b'')
    os.mkdir(at.low('sub', 'd'))
    os.symlink('x', at.low('sub', 'l'))
    os.mkfifo(at.low('sub', 'p'))
    equal([os.lstat(at.low('sub', n)).st_gid for n in 'fdlp'], [55] * 4)
    equal(os.stat(at.low('sub', 'd')).st_mode & 0o7000, 0o2000)
    equal(os.stat(at.low('sub', 'f')).st_mode & 0o7000, 0)
    fd = os.open(at.low('sub'), os.O_TMPFILE | os.O_RDWR)
    equal(os.fstat(fd).st_gid, 55, 'group of a nameless file')
    os.close(fd)


@check
def sticky_directory(at):
    os.chmod(at.new, 0o1777)
    write(at.path('roots'), b'')

    def work():
        write(at.path('mine'), b'')
        fails((errno.EPERM, errno.EACCES), os.unlink, at.path('roots'))
        fails((errno.EPERM, errno.EACCES), os.rename, at.path('roots'), at.path('x'))
        os.rename(at.path('mine'), at.path('mine2'))
        os.unlink(at.path('mine2'))

    as_user(USER, work)


@check
def setuid_goes_on_change(at):
    """A write, a truncate by somebody without CAP_FSETID, and every change of owner take set-user-id away."""
    os.chmod(at.new, 0o777)

    def make(name, mode=0o6777):
        write(at.path(name), b'data')
        os.chown(at.path(name), USER, USER)
        os.chmod(at.path(name), mode)

    def mode(name):
        return os.stat(at.path(name)).st_mode & 0o7777

    make('written')
    make('truncated')
    make('no-exec', 0o2666)
    make('kept')

    def work():
        fd = os.open(at.path('written'), os.O_WRONLY)
        os.write(fd, b'x')
        equal(os.fstat(fd).st_mode & 0o7777, 0o777, 'right after the write')
        os.close(fd)
        os.truncate(at.path('truncated'), 1)
        fd = os.open(at.path('no-exec'), os.O_WRONLY)
        os.write(fd, b'x')
        os.close(fd)

    as_user(USER, work)
    equal(mode('written'), 0o777, 'after a write')
    equal(mode('truncated'), 0o777, 'after a truncate')
    equal(mode('no-exec'), 0o2666, 'set-group-id without execute is no set-group-id')
    fd = os.open(at.path('kept'), os.O_WRONLY)
    os.write(fd, b'x')
    os.close(fd)
    equal(mode('kept'), 0o6777, 'after a write by root')
    os.chown(at.path('kept'), 1, 1)
    equal(mode('kept'), 0o777, 'after a chown')
    os.chmod(at.low('a.txt'), 0o4755)
    os.chown(at.low('a.txt'), 3, 3)
    equal(os.stat(at.low('a.txt')).st_mode & 0o7777, 0o755, 'after a chown of a file of the lower')
    os.chmod(at.low('sub'), 0o6755)
    os.chown(at.low('sub'), 3, 3)
    equal(os.stat(at.low('sub')).st_mode & 0o7777, 0o6755, 'a directory keeps it')


@check
def capabilities_go_on_change(at):
    capability = bytes.fromhex('0100000200040000000000000000000000000000')  # cap_net_bind_service=ep
    for name, change in (
        ('written', lambda p: write(p, b'x', 0o755)),
        ('owned', lambda p: os.chown(p, 1, 1)),
        ('truncated', lambda p: os.truncate(p, 1)),
    ):
        write(at.path(name), b'program', 0o755)
        os.setxattr(at.path(name), 'security.capability', capability)
        equal(os.getxattr(at.path(name), 'security.capability'), capability)
        change(at.path(name))
        fails(errno.ENODATA, os.getxattr, at.path(name), 'security.capability')


@check
def times(at):
    for path in (at.low('a.txt'), at.low('sub'), at.path('f')):
        if path.endswith('f'):
            write(path, b'')
        for pair in ((1_000_000_001, 2_000_000_003), (0, 0), (-5_000_000_001, -1), (4_300_000_000_123_456_789,) * 2):
            os.utime(path, ns=pair)
            st = os.stat(path)
            equal((st.st_atime_ns, st.st_mtime_ns), pair)
        before = time.time_ns() - 20_000_000
        os.utime(path)
        st = os.stat(path)
        assert before <= st.st_mtime_ns <= time.time_ns() + 20_000_000, (before, st.st_mtime_ns)
        assert st.st_ctime_ns >= before
    os.utime(at.low('link'), ns=(7, 8), follow_symlinks=False)
    equal(os.lstat(at.low('link')).st_mtime_ns, 8)
    assert os.stat(at.low('a.txt')).st_mtime_ns != 8


@check
def times_now_and_omit(at):
    import ctypes

    now, omit = (1 << 30) - 1, (1 << 30) - 2
    libc = ctypes.CDLL(None, use_errno=True)

    class Spec(ctypes.Structure):
        _fields_ = [('s', ctypes.c_long), ('ns', ctypes.c_long)]

    def utimensat(path, atime, mtime):
        pair = (Spec * 2)(Spec(*atime), Spec(*mtime))
        equal(libc.utimensat(-100, os.fsencode(path), pair, 0), 0)

    path = at.low('a.txt')
    os.utime(path, ns=(11, 22))
    utimensat(path, (0, omit), (0, 33))
    st = os.stat(path)
    equal((st.st_atime_ns, st.st_mtime_ns), (11, 33))
    utimensat(path, (44, 5), (0, omit))
    st = os.stat(path)
    equal((st.st_atime_ns, st.st_mtime_ns), (44_000_000_005, 33))
    utimensat(path, (0, omit), (0, now))
    st = os.stat(path)
    equal(st.st_atime_ns, 44_000_000_005)
    assert abs(st.st_mtime_ns - time.time_ns()) < 10**9
    utimensat(path, (0, omit), (0, omit))


@check
def times_move_with_changes(at):
    def past(path):
        os.utime(path, ns=(10**9, 10**9))

    for path in (at.low('a.txt'), at.path('f')):
        if path.endswith('f'):
            write(path, b'1')
        past(path)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, b'more')
        assert os.fstat(fd).st_mtime_ns > 10**18, 'mtime after a write'
        os.close(fd)
        past(path)
        equal(os.stat(path).st_mtime_ns, 10**9)
        os.truncate(path, 1)
        assert os.stat(path).st_mtime_ns > 10**18, 'mtime after a truncate'
        past(path)
        os.chmod(path, 0o600)
        equal(os.stat(path).st_mtime_ns, 10**9, 'mtime after chmod')
        # write, then set the time, then close: what every unpacker does.
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, b'unpacked')
        os.utime(fd, ns=(3, 4))
        os.close(fd)
        equal(os.stat(path).st_mtime_ns, 4)
    for directory in (at.lower, at.new):
        for change in (
            lambda: write(os.path.join(directory, 'x'), b''),
            lambda: os.rename(os.path.join(directory, 'x'), os.path.join(directory, 'y')),
            lambda: os.unlink(os.path.join(directory, 'y')),
            lambda: os.mkdir(os.path.join(directory, 'z')),
            lambda: os.rmdir(os.path.join(directory, 'z')),
        ):
            past(directory)
            change()
            assert os.stat(directory).st_mtime_ns > 10**18, 'mtime of a directory'


@check
def mapped_write_moves_times(at):
    import mmap

    os.utime(at.low('big.bin'), ns=(10**9, 10**9))
    fd = os.open(at.low('big.bin'), os.O_RDWR)
    view = mmap.mmap(fd, 4096)
    view[0:1] = b'!'
    view.flush()
    view.close()
    os.close(fd)
    assert os.stat(at.low('big.bin')).st_mtime_ns > 10**18


@check
def filesystem(at):
    v = os.statvfs(at.low('a.txt'))
    assert v.f_blocks > 0 and v.f_bavail <= v.f_bfree <= v.f_blocks and v.f_files > 0
    equal(v.f_namemax, 255)
    assert v.f_bsize >= 512 and v.f_frsize >= 512


@check
def block_counts(at):
    equal(os.stat(at.low('a.txt')).st_blocks > 0, True)
    fd = os.open(at.path('sparse'), os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 64 << 20)
    assert os.fstat(fd).st_blocks < 1000, f'a hole of 64 MiB has {os.fstat(fd).st_blocks} blocks'
    os.close(fd)


@check
def extended_attributes(at):
    for path in (at.low('a.txt'), at.low('sub'), at.path('f')):
        if path.endswith('f'):
            write(path, b'')
            os.setxattr(path, 'user.colour', b'blue')
        os.setxattr(path, 'user.one', b'1')
        fails(errno.EEXIST, os.setxattr, path, 'user.one', b'2', os.XATTR_CREATE)
        fails(errno.ENODATA, os.setxattr, path, 'user.two', b'2', os.XATTR_REPLACE)
        os.setxattr(path, 'user.one', b'', os.XATTR_REPLACE)
        equal(os.getxattr(path, 'user.one'), b'')
        os.setxattr(path, 'user.two', bytes(range(256)), os.XATTR_CREATE)
        equal(os.getxattr(path, 'user.two'), bytes(range(256)))
        expected = {'user.one', 'user.two'} | (set() if path.endswith('sub') else {'user.colour'})
        equal({n for n in os.listxattr(path) if n.startswith('user.')}, expected)
        os.removexattr(path, 'user.one')
        fails(errno.ENODATA, os.removexattr, path, 'user.one')
        fails(errno.ENODATA, os.getxattr, path, 'user.one')
        fails(errno.ENODATA, os.getxattr, path, 'user.never')
    fd = os.open(at.low('b.txt'), os.O_RDONLY)
    os.setxattr(fd, 'user.byfd', b'x')
    equal(os.getxattr(at.low('b.txt'), 'user.byfd'), b'x')
    os.close(fd)
    fails(errno.EPERM, os.setxattr, at.low('link'), 'user.no', b'', follow_symlinks=False)
    fails(errno.EOPNOTSUPP, os.setxattr, at.low('a.txt'), 'nonsense', b'')
    fails((errno.ERANGE, errno.EINVAL), os.setxattr, at.low('a.txt'), 'user.' + 'n' * 251, b'')
    fails((errno.E2BIG, errno.ENOSPC, errno.ERANGE), os.setxattr, at.low('a.txt'), 'user.big', b'x' * 70_000)


@check
def extended_attribute_sizes(at):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    path = os.fsencode(at.low('a.txt'))
    buffer = ctypes.create_string_buffer(100)
    equal(libc.getxattr(path, b'user.colour', None, 0), 4)
    equal(libc.getxattr(path, b'user.colour', buffer, 100), 4)
    equal(libc.getxattr(path, b'user.colour', buffer, 3), -1)
    equal(ctypes.get_errno(), errno.ERANGE)
    need = libc.listxattr(path, None, 0)
    assert need >= len('user.colour') + 1, need
    equal(libc.listxattr(path, buffer, need), need)
    equal(libc.listxattr(path, buffer, 3), -1)
    equal(ctypes.get_errno(), errno.ERANGE)
    os.setxattr(path, 'user.large', b'v' * 3000)
    equal(os.getxattr(path, 'user.large'), b'v' * 3000)


@check
def special_files(at):
    os.mkfifo(at.path('fifo'), 0o600)
    reader = os.open(at.path('fifo'), os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(at.path('fifo'), os.O_WRONLY)
    os.write(writer, b'through')
    equal(os.read(reader, 10), b'through')
    os.close(reader)
    os.close(writer)
    before = os.getcwd()
    os.chdir(at.new)
    try:
        server = socket.socket(socket.AF_UNIX)
        server.bind('socket')
        server.listen(1)
        assert stat.S_ISSOCK(os.stat(at.path('socket')).st_mode)
        client = socket.socket(socket.AF_UNIX)
        client.connect('socket')
        accepted, _ = server.accept()
        client.sendall(b'hi')
        equal(accepted.recv(10), b'hi')
        for s in (server, client, accepted):
            s.close()
        fails(errno.EADDRINUSE, socket.socket(socket.AF_UNIX).bind, 'socket')
    finally:
        os.chdir(before)
    os.mknod(at.path('null'), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    st = os.stat(at.path('null'))
    equal((stat.S_ISCHR(st.st_mode), st.st_rdev), (True, os.makedev(1, 3)))
    os.mknod(at.path('block'), stat.S_IFBLK | 0o600, os.makedev(259, 300))
    equal(os.stat(at.path('block')).st_rdev, os.makedev(259, 300))
    os.mknod(at.path('plain'), stat.S_IFREG | 0o600)
    write(at.path('plain'), b'plain')
    equal(read(at.path('plain')), b'plain')


@check
def access_times_alone(at):
    before = os.stat(at.low('a.txt')).st_mtime_ns
    read(at.low('a.txt'))
    os.utime(at.low('a.txt'), ns=(12, before))
    st = os.stat(at.low('a.txt'))
    equal((st.st_atime_ns, st.st_mtime_ns), (12, before))
