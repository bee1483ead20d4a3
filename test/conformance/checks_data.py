"""Contents of files: flags of open, offsets, holes, sizes, mappings, copies, files without a name."""
import errno
import fcntl
import mmap
import os
import subprocess
import threading

from checklib import (
    AT_SYMLINK_FOLLOW, BIG, FALLOC_COLLAPSE_RANGE, FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, check, equal,
    fails, fallocate, linkat, read, syncfs, write,
)


@check
def create_exclusive(at):
    fd = os.open(at.path('f'), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)
    equal(os.fstat(fd).st_mode & 0o7777, 0o640)
    equal(os.write(fd, b'x'), 1)
    os.close(fd)
    fails(errno.EEXIST, os.open, at.path('f'), os.O_CREAT | os.O_EXCL | os.O_RDWR)
    fails(errno.EEXIST, os.open, at.low('a.txt'), os.O_CREAT | os.O_EXCL | os.O_RDWR)
    fails(errno.EEXIST, os.open, at.low('dangling'), os.O_CREAT | os.O_EXCL | os.O_RDWR)
    fails(errno.ENOENT, os.open, at.path('missing'), os.O_RDWR)
    fails(errno.EISDIR, os.open, at.new, os.O_RDWR)
    fails(errno.ENOTDIR, os.open, at.path('f'), os.O_RDONLY | os.O_DIRECTORY)
    fails(errno.ENOTDIR, os.open, at.path('f', 'below'), os.O_CREAT | os.O_RDWR)
    fails(errno.ELOOP, os.open, at.low('link'), os.O_RDONLY | os.O_NOFOLLOW)


@check
def create_through_dangling_link(at):
    fd = os.open(at.low('dangling'), os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(fd, b'made')
    os.close(fd)
    equal(read(at.low('nowhere')), b'made')


@check
def truncate_on_open(at):
    for path in (at.low('a.txt'), at.low('big.bin')):
        before = os.stat(path).st_ino
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        equal(os.fstat(fd).st_size, 0)
        equal(read(path), b'')
        os.write(fd, b'AB')
        os.close(fd)
        equal(read(path), b'AB')
        equal(os.stat(path).st_ino, before, 'st_ino')


@check
def append(at):
    for path, head in ((at.path('f'), b''), (at.low('a.txt'), b'hello lower\n')):
        one = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        two = os.open(path, os.O_WRONLY | os.O_APPEND)
        for i in range(20):
            os.write(one, b'1')
            os.write(two, b'2')
            if i == 10:
                os.lseek(one, 0, os.SEEK_SET)
        os.close(one)
        os.close(two)
        equal(read(path), head + b'12' * 20)


@check
def appends_of_threads_are_whole(at):
    def work(letter):
        fd = os.open(at.path('f'), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for _ in range(100):
            os.write(fd, letter * 100)
        os.close(fd)

    threads = [threading.Thread(target=work, args=(bytes([65 + i]),)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    data = read(at.path('f'))
    equal(len(data), 40_000)
    for i in range(0, len(data), 100):
        equal(data[i : i + 100], data[i : i + 1] * 100)
    os.unlink(at.path('f'))  # its order is another in each run


@check
def offsets(at):
    fd = os.open(at.low('big.bin'), os.O_RDWR)
    model = bytearray(BIG)
    for offset, size in ((0, 1), (4095, 2), (100_000, 70_000), (len(BIG) - 3, 3), (len(BIG), 10), (1, 4096)):
        data = bytes([offset % 250]) * size
        equal(os.pwrite(fd, data, offset), size)
        model[offset : offset + size] = data
        equal(os.pread(fd, size + 20, max(0, offset - 10)), bytes(model[max(0, offset - 10) :][: size + 20]))
    equal(os.lseek(fd, 0, os.SEEK_CUR), 0)
    equal(os.read(fd, len(model) + 1), bytes(model))
    equal(os.read(fd, 1), b'')
    equal(os.pread(fd, 10, len(model) + 5), b'')
    equal(os.lseek(fd, -5, os.SEEK_END), len(model) - 5)
    fails(errno.EINVAL, os.lseek, fd, -1, os.SEEK_SET)
    os.close(fd)
    equal(read(at.low('big.bin')), bytes(model))


@check
def read_only_and_write_only(at):
    fd = os.open(at.low('a.txt'), os.O_RDONLY)
    fails(errno.EBADF, os.write, fd, b'x')
    os.close(fd)
    fd = os.open(at.low('a.txt'), os.O_WRONLY)
    fails(errno.EBADF, os.read, fd, 1)
    os.close(fd)


@check
def write_in_place_is_seen_by_open_readers(at):
    """A member's descriptor, opened before the bytes were made the transaction's own, reads what is written later."""
    reader = os.open(at.low('b.txt'), os.O_RDONLY)
    equal(os.pread(reader, 100, 0), b'second\n')
    fd = os.open(at.low('b.txt'), os.O_RDWR)
    os.pwrite(fd, b'SEC', 0)
    equal(os.pread(reader, 100, 0), b'SECond\n')
    os.ftruncate(fd, 3)
    equal(os.pread(reader, 100, 0), b'SEC')
    equal(os.fstat(reader).st_size, 3)
    os.close(fd)
    os.close(reader)


@check
def holes(at):
    fd = os.open(at.path('sparse'), os.O_RDWR | os.O_CREAT)
    megabyte = 1 << 20
    os.pwrite(fd, b'head', 0)
    os.pwrite(fd, b'tail', 4 * megabyte)
    equal(os.fstat(fd).st_size, 4 * megabyte + 4)
    equal(os.pread(fd, 100, 2 * megabyte), b'\0' * 100)
    equal(os.lseek(fd, 0, os.SEEK_DATA), 0)
    hole = os.lseek(fd, 0, os.SEEK_HOLE)
    assert 4 <= hole < 4 * megabyte, hole
    data = os.lseek(fd, hole, os.SEEK_DATA)
    assert hole < data <= 4 * megabyte, data
    equal(os.lseek(fd, 4 * megabyte, os.SEEK_HOLE), 4 * megabyte + 4)
    fails(errno.ENXIO, os.lseek, fd, 5 * megabyte, os.SEEK_DATA)
    fails(errno.ENXIO, os.lseek, fd, 5 * megabyte, os.SEEK_HOLE)
    os.close(fd)
    fd = os.open(at.low('a.txt'), os.O_RDONLY)
    equal(os.lseek(fd, 3, os.SEEK_DATA), 3)
    equal(os.lseek(fd, 3, os.SEEK_HOLE), 12)
    os.close(fd)
    fd = os.open(at.path('empty'), os.O_RDWR | os.O_CREAT)
    fails(errno.ENXIO, os.lseek, fd, 0, os.SEEK_DATA)
    os.close(fd)


@check
def truncate_sizes(at):
    for path, content in ((at.low('a.txt'), b'hello lower\n'), (at.low('big.bin'), BIG)):
        os.truncate(path, 5)
        equal(read(path), content[:5])
        os.truncate(path, 5000)
        equal(read(path), content[:5] + b'\0' * 4995)
        fd = os.open(path, os.O_RDWR)
        os.ftruncate(fd, 2)
        os.ftruncate(fd, 4)
        equal(os.pread(fd, 10, 0), content[:2] + b'\0\0')
        os.pwrite(fd, b'Z', 9)
        equal(os.fstat(fd).st_size, 10)
        os.close(fd)
        equal(read(path), content[:2] + b'\0' * 7 + b'Z')
    fails(errno.EISDIR, os.truncate, at.new, 0)
    fails(errno.EINVAL, os.truncate, at.low('b.txt'), -1)
    fd = os.open(at.low('b.txt'), os.O_RDONLY)
    fails((errno.EINVAL, errno.EBADF), os.ftruncate, fd, 0)
    os.close(fd)


@check
def truncate_up_then_down_across_pages(at):
    fd = os.open(at.path('f'), os.O_RDWR | os.O_CREAT)
    os.write(fd, b'x' * 10_000)
    os.ftruncate(fd, 100)
    os.ftruncate(fd, 10_000)
    equal(os.pread(fd, 20_000, 0), b'x' * 100 + b'\0' * 9_900)
    os.close(fd)


@check
def allocate(at):
    fd = os.open(at.path('f'), os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 8192)
    equal(os.fstat(fd).st_size, 8192)
    os.pwrite(fd, b'y' * 8192, 0)
    fallocate(fd, FALLOC_KEEP_SIZE, 8192, 8192)
    equal(os.fstat(fd).st_size, 8192)
    fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 1000, 2000)
    equal(os.pread(fd, 8192, 0), b'y' * 1000 + b'\0' * 2000 + b'y' * 5192)
    fallocate(fd, FALLOC_ZERO_RANGE, 8000, 1000)
    equal(os.fstat(fd).st_size, 9000)
    equal(os.pread(fd, 2000, 7999), b'y' + b'\0' * 1000)
    fails((errno.EOPNOTSUPP, errno.EINVAL), fallocate, fd, FALLOC_COLLAPSE_RANGE, 0, 100)
    os.close(fd)
    fd = os.open(at.low('a.txt'), os.O_RDWR)
    fallocate(fd, 0, 0, 100)
    os.close(fd)
    equal(read(at.low('a.txt')), b'hello lower\n' + b'\0' * 88)


@check
def copy_in_the_kernel(at):
    source = os.open(at.low('big.bin'), os.O_RDONLY)
    target = os.open(at.path('copy'), os.O_RDWR | os.O_CREAT)
    copied = 0
    while copied < len(BIG):
        n = os.copy_file_range(source, target, len(BIG) - copied)
        assert n > 0
        copied += n
    equal(os.copy_file_range(source, target, 10), 0)
    equal(read(at.path('copy')), BIG)
    equal(os.copy_file_range(source, target, 100, 1000, 5), 100)
    model = bytearray(BIG)
    model[5:105] = BIG[1000:1100]
    equal(os.pread(target, len(BIG) + 1, 0), bytes(model))
    # Onto a file of the lower, whose bytes have to be copied up first.
    onto = os.open(at.low('a.txt'), os.O_RDWR)
    equal(os.copy_file_range(source, onto, 3, 0, 6), 3)
    equal(os.pread(onto, 100, 0), b'hello ' + BIG[:3] + b'er\n')
    os.lseek(source, 0, os.SEEK_SET)
    equal(os.sendfile(onto, source, 0, 4), 4)
    for fd in (source, target, onto):
        os.close(fd)


@check
def map_for_reading(at):
    for path in (at.low('big.bin'), at.path('own')):
        if path.endswith('own'):
            write(path, BIG)
        fd = os.open(path, os.O_RDONLY)
        with mmap.mmap(fd, len(BIG), prot=mmap.PROT_READ) as view:
            os.close(fd)
            equal(view[:], BIG)
        fd = os.open(path, os.O_RDONLY)
        with mmap.mmap(fd, len(BIG), flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as view:
            view[0:4] = b'mine'
        os.close(fd)
        equal(read(path), BIG)


@check
def map_for_writing(at):
    for path in (at.low('big.bin'), at.path('own')):
        if path.endswith('own'):
            write(path, BIG)
        fd = os.open(path, os.O_RDWR)
        view = mmap.mmap(fd, len(BIG))
        view[5000:5004] = b'shrd'
        view.flush()
        equal(os.pread(fd, 6, 4999), BIG[4999:5000] + b'shrd' + BIG[5004:5005])
        os.pwrite(fd, b'wr', 10_000)
        equal(view[10_000:10_002], b'wr')
        # Not synced, closed before the mapping ends: a linker does that.
        view[200_000:200_004] = b'late'
        os.close(fd)
        view.close()
        model = bytearray(BIG)
        model[5000:5004], model[10_000:10_002], model[200_000:200_004] = b'shrd', b'wr', b'late'
        equal(read(path), bytes(model))


@check
def map_and_leave_dirty(at):
    """The last thing that is done to these pages before the process ends: the commit must have them (see `after`)."""
    fd = os.open(at.path('f'), os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 100_000)
    view = mmap.mmap(fd, 100_000)
    view[:] = b'D' * 100_000
    globals()['_dirty'] = (fd, view)  # stays mapped and open until exit


@check
def unlink_while_open(at):
    for path in (at.low('big.bin'), at.path('own')):
        if path.endswith('own'):
            write(path, BIG)
        fd = os.open(path, os.O_RDWR)
        os.unlink(path)
        fails(errno.ENOENT, os.stat, path)
        equal(os.fstat(fd).st_nlink, 0)
        equal(os.pread(fd, len(BIG), 0), BIG)
        os.pwrite(fd, b'after unlink', 0)
        equal(os.pread(fd, 12, 0), b'after unlink')
        os.ftruncate(fd, 6)
        equal(os.fstat(fd).st_size, 6)
        os.fchmod(fd, 0o600)
        equal(os.fstat(fd).st_mode & 0o777, 0o600)
        # The name is free, and somebody else's from now on.
        write(path, b'another')
        equal(os.pread(fd, 100, 0), b'after ')
        equal(read(path), b'another')
        os.close(fd)


@check
def nameless_file(at):
    fd = os.open(at.new, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b'no name yet')
    equal(os.fstat(fd).st_nlink, 0)
    equal(os.listdir(at.new), [])
    linkat(-100, f'/proc/self/fd/{fd}', at.path('named'), AT_SYMLINK_FOLLOW)
    equal(os.fstat(fd).st_nlink, 1)
    equal(read(at.path('named')), b'no name yet')
    os.write(fd, b', now one')
    os.close(fd)
    equal(read(at.path('named')), b'no name yet, now one')
    equal(os.stat(at.path('named')).st_mode & 0o7777, 0o640)
    fd = os.open(at.low('sub'), os.O_TMPFILE | os.O_RDWR)
    os.write(fd, b'gone')
    os.close(fd)
    fd = os.open(at.new, os.O_TMPFILE | os.O_RDWR | os.O_EXCL)
    fails(errno.ENOENT, linkat, -100, f'/proc/self/fd/{fd}', at.path('never'), AT_SYMLINK_FOLLOW)
    os.close(fd)
    equal(os.listdir(at.new), ['named'])


@check
def run_a_program(at):
    out = subprocess.run([at.low('run.sh'), 'x'], stdout=subprocess.PIPE, check=True, timeout=30).stdout
    equal(out, b'ran x\n')
    write(at.path('sleep'), read(os.path.realpath('/bin/sleep')), 0o755)
    child = subprocess.Popen([at.path('sleep'), '60'])
    try:
        fails(errno.ETXTBSY, os.open, at.path('sleep'), os.O_WRONLY)
        fails(errno.ETXTBSY, os.truncate, at.path('sleep'), 0)
    finally:
        child.kill()
        child.wait()
    os.chmod(at.low('run.sh'), 0o644)
    fails(errno.EACCES, subprocess.run, [at.low('run.sh')], check=False)


@check
def locks(at):
    fd, other = os.open(at.low('a.txt'), os.O_RDWR), os.open(at.low('a.txt'), os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    fails(errno.EAGAIN, fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(fd, fcntl.LOCK_UN)
    fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    fcntl.lockf(fd, fcntl.LOCK_EX, 4, 0)
    pid = os.fork()
    if pid == 0:
        try:
            mine = os.open(at.low('a.txt'), os.O_RDWR)
            fails((errno.EAGAIN, errno.EACCES), fcntl.lockf, mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 4, 0)
            fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 4, 4)
            os._exit(0)
        except BaseException:  # pylint: disable=broad-except
            os._exit(1)
    equal(os.waitpid(pid, 0)[1], 0, "the child's locks")
    os.close(fd)
    os.close(other)


@check
def sync_calls(at):
    fd = os.open(at.low('a.txt'), os.O_RDWR)
    os.write(fd, b'synced')
    os.fsync(fd)
    os.fdatasync(fd)
    syncfs(fd)
    os.close(fd)
    for path in (at.new, at.lower, at.root):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)
    fd = os.open(at.path('direct'), os.O_WRONLY | os.O_CREAT | os.O_SYNC)
    os.write(fd, b'x')
    os.close(fd)


@check
def read_a_directory_as_file(at):
    fd = os.open(at.new, os.O_RDONLY)
    fails(errno.EISDIR, os.read, fd, 10)
    os.close(fd)


@check
def many_small_writes(at):
    with open(at.path('f'), 'wb', buffering=0) as f:
        for i in range(2000):
            f.write(bytes([i % 256]) * 7)
    equal(read(at.path('f')), b''.join(bytes([i % 256]) * 7 for i in range(2000)))


@check
def large_file(at):
    block = bytes(range(256)) * 4096
    with open(at.path('f'), 'wb') as f:
        for _ in range(24):
            f.write(block)
    with open(at.path('f'), 'rb') as f:
        for _ in range(24):
            equal(f.read(1 << 20) == block, True)
        equal(f.read(1), b'')


@check
def unlinked_while_mapped(at):
    fd = os.open(at.low('big.bin'), os.O_RDONLY)
    view = mmap.mmap(fd, len(BIG), prot=mmap.PROT_READ)
    os.close(fd)
    os.unlink(at.low('big.bin'))
    write(at.low('big.bin'), b'new')
    equal(view[:], BIG)
    view.close()
