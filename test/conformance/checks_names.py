"""Names: links, renames, listings, odd names, working directories, removal while others look."""
import errno
import os
import shutil
import stat
import threading

from checklib import (
    RENAME_EXCHANGE, RENAME_NOREPLACE, check, equal, fails, linkat, read, renameat2, write,
)


def names(path):
    return sorted(os.listdir(path))


LOWER = sorted(['a.txt', 'b.txt', 'big.bin', 'dangling', 'empty', 'hard1', 'hard2', 'link', 'run.sh', 'sub'])


@check
def rename_file(at):
    ino = os.stat(at.low('a.txt')).st_ino
    os.rename(at.low('a.txt'), at.path('moved'))
    equal(read(at.path('moved')), b'hello lower\n')
    equal(os.getxattr(at.path('moved'), 'user.colour'), b'blue')
    equal(os.stat(at.path('moved')).st_ino, ino, 'st_ino')
    fails(errno.ENOENT, os.stat, at.low('a.txt'))
    os.rename(at.path('moved'), at.low('a.txt'))
    equal(names(at.lower), LOWER)
    equal(read(at.low('a.txt')), b'hello lower\n')
    equal(os.stat(at.low('a.txt')).st_ino, ino, 'st_ino')
    fails(errno.ENOENT, os.rename, at.path('nothing'), at.path('x'))
    fails(errno.ENOENT, os.rename, at.low('a.txt'), at.path('no', 'x'))
    os.rename(at.low('a.txt'), at.low('a.txt'))
    equal(read(at.low('a.txt')), b'hello lower\n')


@check
def rename_over_open_file(at):
    fd = os.open(at.low('b.txt'), os.O_RDWR)
    os.rename(at.low('a.txt'), at.low('b.txt'))
    equal(read(at.low('b.txt')), b'hello lower\n')
    equal(os.pread(fd, 100, 0), b'second\n')
    equal(os.fstat(fd).st_nlink, 0)
    os.pwrite(fd, b'S', 0)
    equal(os.pread(fd, 100, 0), b'Second\n')
    os.close(fd)
    equal(read(at.low('b.txt')), b'hello lower\n')
    # The moved one, still open.
    fd = os.open(at.low('b.txt'), os.O_RDWR)
    os.rename(at.low('b.txt'), at.path('c'))
    os.pwrite(fd, b'J', 0)
    equal(read(at.path('c')), b'Jello lower\n')
    os.close(fd)


@check
def rename_atomically_over(at):
    """write to a temporary, rename over: how every installer writes."""
    for i in range(50):
        write(at.path('tmp'), f'version {i}'.encode())
        os.replace(at.path('tmp'), at.low('a.txt'))
        equal(read(at.low('a.txt')), f'version {i}'.encode())
    equal(names(at.new), [])


@check
def rename_kinds(at):
    os.mkdir(at.path('d'))
    write(at.path('d', 'x'), b'')
    os.mkdir(at.path('e'))
    write(at.path('f'), b'f')
    fails(errno.ENOTDIR, os.rename, at.path('e'), at.path('f'))
    fails(errno.EISDIR, os.rename, at.path('f'), at.path('e'))
    fails(errno.EISDIR, os.rename, at.path('f'), at.low('sub'))
    fails(errno.ENOTDIR, os.rename, at.low('sub'), at.path('f'))
    fails(errno.ENOTEMPTY, os.rename, at.path('e'), at.path('d'))
    fails(errno.ENOTEMPTY, os.rename, at.path('e'), at.low('sub'))
    fails(errno.ENOTEMPTY, os.rename, at.low('empty'), at.low('sub'))
    fails(errno.EINVAL, os.rename, at.path('d'), at.path('d', 'into'))
    fails(errno.EINVAL, os.rename, at.low('sub'), at.low('sub', 'deep', 'into'))
    fails(errno.ENOTEMPTY, os.rename, at.low('sub', 'deep'), at.low('sub'))
    os.rename(at.path('d'), at.path('e'))
    equal(names(at.path('e')), ['x'])
    os.rename(at.path('e'), at.low('empty'))
    equal(names(at.low('empty')), ['x'])
    equal(names(at.new), ['f'])
    fails((errno.EINVAL, errno.EBUSY), os.rename, at.path('.'), at.path('y'))


@check
def rename_noreplace(at):
    fails(errno.EEXIST, renameat2, at.low('a.txt'), at.low('b.txt'), RENAME_NOREPLACE)
    fails(errno.EEXIST, renameat2, at.low('a.txt'), at.low('dangling'), RENAME_NOREPLACE)
    renameat2(at.low('a.txt'), at.path('moved'), RENAME_NOREPLACE)
    equal(read(at.path('moved')), b'hello lower\n')
    fails(errno.EINVAL, renameat2, at.path('moved'), at.path('x'), RENAME_NOREPLACE | RENAME_EXCHANGE)


@check
def rename_exchange(at):
    renameat2(at.low('a.txt'), at.low('b.txt'), RENAME_EXCHANGE)
    equal(read(at.low('a.txt')), b'second\n')
    equal(read(at.low('b.txt')), b'hello lower\n')
    renameat2(at.low('sub'), at.low('a.txt'), RENAME_EXCHANGE)
    equal(read(at.low('sub')), b'second\n')
    equal(names(at.low('a.txt')), ['b.txt', 'deep'])
    equal(read(at.low('a.txt', 'deep', 'c.txt')), b'c in deep\n')
    fails(errno.ENOENT, renameat2, at.low('sub'), at.low('none'), RENAME_EXCHANGE)
    os.mkdir(at.path('own'))
    write(at.path('own', 'y'), b'y')
    links = os.stat(at.new).st_nlink, os.stat(at.lower).st_nlink
    renameat2(at.path('own'), at.low('empty'), RENAME_EXCHANGE)
    equal(names(at.path('own')), [])
    equal(names(at.low('empty')), ['y'])
    equal((os.stat(at.new).st_nlink, os.stat(at.lower).st_nlink), links, 'st_nlink')
    fails(errno.EINVAL, renameat2, at.low('a.txt'), at.low('a.txt', 'deep'), RENAME_EXCHANGE)
    equal(names(at.lower), LOWER)


@check
def rename_directory_of_lower(at):
    """pip's uninstall moves whole directories away, and back when the install fails."""
    ino = os.stat(at.low('sub', 'deep', 'c.txt')).st_ino
    os.rename(at.low('sub'), at.path('~ub'))
    fails(errno.ENOENT, os.stat, at.low('sub'))
    equal(names(at.path('~ub')), ['b.txt', 'deep'])
    equal(read(at.path('~ub', 'deep', 'c.txt')), b'c in deep\n')
    equal(os.stat(at.path('~ub', 'deep', 'c.txt')).st_ino, ino, 'st_ino')
    write(at.path('~ub', 'deep', 'c.txt'), b'changed there\n')
    write(at.path('~ub', 'deep', 'd.txt'), b'added there\n')
    os.unlink(at.path('~ub', 'b.txt'))
    os.rename(at.path('~ub'), at.low('sub'))
    equal(names(at.new), [])
    equal(names(at.low('sub')), ['deep'])
    equal(names(at.low('sub', 'deep')), ['c.txt', 'd.txt'])
    equal(read(at.low('sub', 'deep', 'c.txt')), b'changed there\n')


@check
def rename_directories_nested(at):
    os.rename(at.low('sub', 'deep'), at.path('deep'))
    os.rename(at.low('sub'), at.path('deep', 'sub'))
    os.rename(at.path('deep'), at.low('turned'))
    equal(names(at.low('turned')), ['c.txt', 'sub'])
    equal(read(at.low('turned', 'sub', 'b.txt')), b'b in sub\n')
    fails(errno.ENOENT, os.stat, at.low('turned', 'sub', 'deep'))
    # A new directory under the old name shows nothing of the old one.
    os.mkdir(at.low('sub'))
    equal(names(at.low('sub')), [])
    write(at.low('sub', 'b.txt'), b'new b')
    equal(read(at.low('sub', 'b.txt')), b'new b')
    equal(read(at.low('turned', 'sub', 'b.txt')), b'b in sub\n')
    os.rename(at.low('turned', 'sub'), at.low('sub', 'inner'))
    equal(names(at.low('sub')), ['b.txt', 'inner'])
    equal(os.stat(at.low('sub')).st_nlink, 3, 'st_nlink')


@check
def rename_chain_of_lower_directories(at):
    """Round and round: three names change places, through a temporary one."""
    for name in ('x', 'y'):
        shutil.copytree(at.low('sub'), at.low(name))
        write(at.low(name, 'who'), name.encode())
    for _ in range(3):
        os.rename(at.low('x'), at.low('t'))
        os.rename(at.low('y'), at.low('x'))
        os.rename(at.low('sub'), at.low('y'))
        os.rename(at.low('t'), at.low('sub'))
    equal(read(at.low('x', 'who')), b'x')
    equal(read(at.low('y', 'who')), b'y')
    equal(names(at.low('sub')), ['b.txt', 'deep'])


@check
def hard_links(at):
    equal(os.stat(at.low('hard1')).st_nlink, 2)
    equal(os.stat(at.low('hard1')).st_ino, os.stat(at.low('hard2')).st_ino, 'st_ino')
    os.link(at.low('a.txt'), at.path('name2'))
    one, two = os.stat(at.low('a.txt')), os.stat(at.path('name2'))
    equal((one.st_ino, one.st_nlink), (two.st_ino, 2))
    with open(at.path('name2'), 'r+b') as f:
        f.write(b'HELLO')
    equal(read(at.low('a.txt')), b'HELLO lower\n')
    os.chmod(at.low('a.txt'), 0o600)
    equal(os.stat(at.path('name2')).st_mode & 0o777, 0o600)
    os.unlink(at.low('a.txt'))
    equal(os.stat(at.path('name2')).st_nlink, 1)
    equal(read(at.path('name2')), b'HELLO lower\n')
    os.link(at.path('name2'), at.low('a.txt'))
    equal(os.stat(at.path('name2')).st_nlink, 2)
    fails(errno.EEXIST, os.link, at.path('name2'), at.low('b.txt'))
    fails(errno.EPERM, os.link, at.low('sub'), at.path('dir'))
    # Two names of one file: nothing happens.
    os.rename(at.path('name2'), at.low('a.txt'))
    equal(os.path.exists(at.path('name2')), True)
    os.link(at.low('link'), at.path('link2'), follow_symlinks=False)
    equal(os.readlink(at.path('link2')), 'a.txt')


@check
def hard_link_changed_by_one_name(at):
    """The other name is never looked at: it must show the change all the same, also after the commit."""
    with open(at.low('hard1'), 'r+b') as f:
        f.write(b'TWO')


@check
def hard_link_loses_one_name(at):
    """The other name is never looked at: its link count must be right after the commit."""
    os.unlink(at.low('hard1'))


@check
def hard_link_mode_by_one_name(at):
    os.chmod(at.low('hard2'), 0o600)


@check
def hard_link_gets_a_third_name(at):
    os.link(at.low('hard2'), at.low('sub', 'hard3'))


@check
def hard_link_moves(at):
    os.rename(at.low('hard1'), at.path('hard1'))


@check
def hard_link_directory_moves(at):
    os.link(at.low('hard1'), at.low('sub', 'hard3'))
    os.rename(at.low('sub'), at.path('sub'))
    with open(at.path('sub', 'hard3'), 'r+b') as f:
        f.write(b'333')
    equal(read(at.low('hard2')), b'333 names\n')
    equal(os.stat(at.low('hard2')).st_nlink, 3)


@check
def symlinks(at):
    long = 'x/' * 2047 + 'y'
    equal(len(long), 4095)
    for target in ('nowhere', '/etc/hostname', long, '..', 'a b\nc'):
        os.symlink(target, at.path('l'))
        equal(os.readlink(at.path('l')), target)
        equal(os.lstat(at.path('l')).st_size, len(target))
        os.unlink(at.path('l'))
    os.symlink('nowhere', at.path('l'))
    fails(errno.ENOENT, os.stat, at.path('l'))
    fails(errno.EEXIST, os.symlink, 'other', at.path('l'))
    os.unlink(at.path('l'))
    os.symlink('l', at.path('l'))
    fails(errno.ELOOP, os.stat, at.path('l'))
    equal(read(at.low('link')), b'hello lower\n')
    os.symlink(at.low('sub'), at.path('d'))
    equal(read(at.path('d', 'b.txt')), b'b in sub\n')
    write(at.path('d', 'through'), b'through')
    equal(read(at.low('sub', 'through')), b'through')
    os.unlink(at.path('d'))
    equal(os.readlink(at.low('dangling')), 'nowhere')
    fails(errno.EINVAL, os.readlink, at.low('a.txt'))
    write(at.low('link'), b'by link')
    equal(read(at.low('a.txt')), b'by link')


@check
def mkdir_rmdir(at):
    before = os.stat(at.new).st_nlink
    os.mkdir(at.path('d'))
    equal(os.stat(at.new).st_nlink, before + 1)
    fails(errno.EEXIST, os.mkdir, at.path('d'))
    fails(errno.EEXIST, os.mkdir, at.low('sub'))
    fails(errno.EEXIST, os.mkdir, at.low('a.txt'))
    fails(errno.ENOENT, os.mkdir, at.path('no', 'd'))
    fails(errno.ENOTDIR, os.mkdir, at.low('a.txt', 'd'))
    os.mkdir(at.path('d', 'e'))
    fails(errno.ENOTEMPTY, os.rmdir, at.path('d'))
    fails(errno.ENOTEMPTY, os.rmdir, at.low('sub'))
    fails(errno.ENOTDIR, os.rmdir, at.low('a.txt'))
    fails(errno.EISDIR, os.unlink, at.path('d'))
    os.rmdir(at.path('d', 'e'))
    os.rmdir(at.path('d'))
    os.rmdir(at.low('empty'))
    fails(errno.ENOENT, os.rmdir, at.low('empty'))
    equal(os.stat(at.new).st_nlink, before)
    fails(errno.EINVAL, os.rmdir, at.path('.'))
    fails(errno.ENOTEMPTY, os.rmdir, at.low('sub', '..'))
    fails(errno.ENOENT, os.unlink, at.path('x'))


@check
def list_types(at):
    os.mkfifo(at.path('fifo'))
    os.mkdir(at.path('d'))
    write(at.path('f'), b'')
    os.symlink('x', at.path('l'))
    os.mknod(at.path('sock'), stat.S_IFSOCK | 0o644)
    kinds = {}
    for root in (at.new, at.lower):
        with os.scandir(root) as entries:
            for e in entries:
                st = e.stat(follow_symlinks=False)
                # From d_type alone, as is_dir() and the others answer without a stat.
                kinds[e.name] = (e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False), e.is_symlink())
                expected = (stat.S_ISDIR(st.st_mode), stat.S_ISREG(st.st_mode), stat.S_ISLNK(st.st_mode))
                equal(kinds[e.name], expected, e.name)
                equal(e.inode(), st.st_ino, f'd_ino of {e.name}')
    equal(sorted(kinds), sorted(LOWER + ['d', 'f', 'fifo', 'l', 'sock']))


@check
def listing_shows_what_was_done(at):
    write(at.low('added'), b'')
    os.unlink(at.low('b.txt'))
    os.rename(at.low('a.txt'), at.low('renamed'))
    equal(names(at.lower), sorted(set(LOWER) - {'a.txt', 'b.txt'} | {'added', 'renamed'}))
    write(at.low('b.txt'), b'again')
    os.rename(at.low('renamed'), at.low('a.txt'))
    os.unlink(at.low('added'))
    equal(names(at.lower), LOWER)
    equal(len(os.listdir(at.lower)), len(LOWER))


@check
def remove_while_listing(at):
    """rm -rf of 3,000 files: removed as they are listed, and none is missed."""
    os.mkdir(at.path('d'))
    for i in range(3000):
        os.close(os.open(at.path('d', f'file-{i:04}'), os.O_CREAT | os.O_WRONLY))
    seen = set()
    with os.scandir(at.path('d')) as entries:
        for e in entries:
            assert e.name not in seen, e.name
            seen.add(e.name)
            os.unlink(e.path)
    equal(len(seen), 3000)
    equal(names(at.path('d')), [])
    os.rmdir(at.path('d'))


@check
def create_while_listing(at):
    """What stays is listed exactly once, whatever comes and goes meanwhile."""
    for i in range(600):
        os.close(os.open(at.path(f'stays-{i:03}'), os.O_CREAT | os.O_WRONLY))
    count = {}
    with os.scandir(at.new) as entries:
        for i, e in enumerate(entries):
            count[e.name] = count.get(e.name, 0) + 1
            if i < 300:
                os.close(os.open(at.path(f'comes-{i:03}'), os.O_CREAT | os.O_WRONLY))
            if i % 2:
                os.rename(at.path(f'comes-{i // 2:03}') if i < 300 else at.path('comes-000'), at.path('comes-000'))
    equal(sorted(n for n in count if n.startswith('stays')), [f'stays-{i:03}' for i in range(600)])
    equal({n: c for n, c in count.items() if n.startswith('stays') and c != 1}, {})


@check
def rename_while_listing(at):
    """Each entry is renamed as it is listed: the new names are not listed again and again (btrfs and tmpfs once did)."""
    for i in range(300):
        os.close(os.open(at.path(f'n{i}'), os.O_CREAT | os.O_WRONLY))
    for directory in (at.new, at.low('sub')):
        steps = 0
        with os.scandir(directory) as entries:
            for e in entries:
                os.rename(e.path, e.path + '~')
                steps += 1
                if steps == 2000:
                    raise AssertionError('the listing does not end')
        equal([n for n in os.listdir(directory) if not n.endswith('~')], [])


@check
def seek_in_listing(at):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    class Dirent(ctypes.Structure):
        _fields_ = [('ino', ctypes.c_uint64), ('off', ctypes.c_int64), ('reclen', ctypes.c_uint16),
                    ('type', ctypes.c_uint8), ('name', ctypes.c_char * 256)]

    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.POINTER(Dirent)
    libc.telldir.restype = ctypes.c_long
    for i in range(500):
        os.close(os.open(at.low(f'n-{i:03}'), os.O_CREAT | os.O_WRONLY))
    stream = ctypes.c_void_p(libc.opendir(os.fsencode(at.lower)))

    def rest():
        found = []
        while True:
            where = libc.telldir(stream)
            entry = libc.readdir(stream)
            if not entry:
                return found
            found.append((where, entry.contents.name))

    whole = rest()
    equal(len(whole), len(LOWER) + 500 + 2)
    for i in (0, 1, 2, 3, 7, 200, 511):
        libc.seekdir(stream, ctypes.c_long(whole[i][0]))
        equal([n for _, n in rest()], [n for _, n in whole[i:]], f'from position {i}')
    libc.rewinddir(stream)
    equal([n for _, n in rest()], [n for _, n in whole])
    libc.closedir(stream)


@check
def long_and_odd_names(at):
    for name in (b'x' * 255, b'\xff\xfe not utf-8', b' ', b'a\nb', '文字'.encode() * 40, b'...', b'-rf', b'\\', b'\x01'):
        path = os.fsencode(at.new) + b'/' + name
        write(path, name)
        equal(read(path), name)
        assert name in os.listdir(os.fsencode(at.new)), name
        os.rename(path, os.fsencode(at.new) + b'/t')
        os.rename(os.fsencode(at.new) + b'/t', path)
    long = at.path('x' * 256)
    fails(errno.ENAMETOOLONG, os.stat, long)
    fails(errno.ENAMETOOLONG, os.open, long, os.O_CREAT | os.O_WRONLY)
    fails(errno.ENAMETOOLONG, os.mkdir, long)
    fails(errno.ENAMETOOLONG, os.symlink, 'x', long)
    fails(errno.ENAMETOOLONG, os.rename, at.low('a.txt'), long)
    fails(errno.ENAMETOOLONG, os.link, at.low('a.txt'), long)
    fails(errno.ENAMETOOLONG, os.unlink, long)
    fails(errno.ENAMETOOLONG, os.rmdir, long)
    fails(errno.ENOENT, os.stat, '')


@check
def dots(at):
    equal(os.stat(at.path('.')).st_ino, os.stat(at.new).st_ino)
    equal(os.stat(at.path('..')).st_ino, os.stat(at.root).st_ino)
    equal(os.stat(at.low('sub', 'deep', '..', '..')).st_ino, os.stat(at.lower).st_ino)
    fails(errno.EEXIST, os.mkdir, at.path('.'))
    fails((errno.ENOTEMPTY, errno.EINVAL), os.rmdir, at.path('..'))
    here = os.stat(at.low('sub'))
    with os.scandir(at.low('sub')) as entries:
        assert not {e.name for e in entries} & {'.', '..'}
    equal(here.st_nlink, 3)


@check
def work_in_a_directory(at):
    """cwd and descriptors of directories of the lower: changes relative to them."""
    before = os.getcwd()
    for home, inner in ((at.low('sub'), 'deep'), (at.new, 'made')):
        os.chdir(home)
        try:
            equal(os.getcwd(), home)
            os.makedirs(inner, exist_ok=True)
            write('here', b'here')
            equal(read(os.path.join(home, 'here')), b'here')
            os.chdir(inner)
            equal(os.getcwd(), os.path.join(home, inner))
            write('../up', b'up')
            os.rename('../up', 'down')
            equal(read('down'), b'up')
            os.chdir('..')
            equal(names('.'), sorted({inner, 'here'} | ({'b.txt'} if inner == 'deep' else set())))
            os.rename(home, home + '-moved')
            equal(os.getcwd(), home + '-moved')
            write('after-move', b'1')
            equal(read(home + '-moved/after-move'), b'1')
            os.rename(home + '-moved', home)
            fd = os.open('.', os.O_RDONLY | os.O_DIRECTORY)
            inside = os.open('by-fd', os.O_CREAT | os.O_WRONLY, dir_fd=fd)
            os.write(inside, b'fd')
            os.close(inside)
            os.rename('by-fd', 'by-fd-2', src_dir_fd=fd, dst_dir_fd=fd)
            equal(read(os.path.join(home, 'by-fd-2')), b'fd')
            os.mkdir('dir', dir_fd=fd)
            os.rmdir('dir', dir_fd=fd)
            os.unlink('by-fd-2', dir_fd=fd)
            equal('by-fd-2' in os.listdir(fd), False)
            os.close(fd)
        finally:
            os.chdir(before)


@check
def directory_removed_under_its_user(at):
    before = os.getcwd()
    for home in (at.low('empty'), at.path('own')):
        os.makedirs(home, exist_ok=True)
        fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
        os.chdir(home)
        try:
            os.rmdir(home)
            fails(errno.ENOENT, os.getcwd)
            fails(errno.ENOENT, os.open, 'x', os.O_CREAT | os.O_WRONLY)
            fails(errno.ENOENT, os.mkdir, 'x', dir_fd=fd)
            equal(os.fstat(fd).st_nlink in (0, 1), True)
            os.mkdir(home)
            write(os.path.join(home, 'other'), b'')
            fails(errno.ENOENT, os.stat, 'other')
        finally:
            os.chdir(before)
            os.close(fd)


@check
def remove_tree_and_make_it_again(at):
    for path in (at.low('sub'), at.path('own')):
        if path.endswith('own'):
            shutil.copytree(at.low('sub'), path)
        for i in range(3):
            shutil.rmtree(path)
            fails(errno.ENOENT, os.listdir, path)
            os.makedirs(os.path.join(path, 'deep'))
            equal(names(path), ['deep'])
            equal(names(os.path.join(path, 'deep')), [])
            fails(errno.ENOENT, os.stat, os.path.join(path, 'b.txt'))
            write(os.path.join(path, 'deep', 'c.txt'), str(i).encode())
            equal(read(os.path.join(path, 'deep', 'c.txt')), str(i).encode())


@check
def file_becomes_directory(at):
    os.unlink(at.low('a.txt'))
    os.mkdir(at.low('a.txt'))
    write(at.low('a.txt', 'in'), b'in')
    equal(read(at.low('a.txt', 'in')), b'in')
    shutil.rmtree(at.low('sub'))
    write(at.low('sub'), b'a file now')
    equal(read(at.low('sub')), b'a file now')
    os.unlink(at.low('link'))
    os.mkdir(at.low('link'))
    os.rmdir(at.low('link'))
    os.symlink('big.bin', at.low('link'))
    equal(os.readlink(at.low('link')), 'big.bin')


@check
def numbers_stay(at):
    """st_ino of a path is the same through everything that keeps the file."""
    path = at.low('a.txt')
    ino = os.stat(path).st_ino
    fd = os.open(path, os.O_RDWR)
    os.write(fd, b'x')
    equal(os.fstat(fd).st_ino, ino)
    os.chmod(path, 0o600)
    os.truncate(path, 0)
    os.utime(path, (1, 1))
    os.rename(path, at.path('z'))
    equal(os.stat(at.path('z')).st_ino, ino)
    equal(os.fstat(fd).st_ino, ino)
    os.listdir(at.new)
    with os.scandir(at.new) as entries:
        equal([e.inode() for e in entries], [ino])
    os.close(fd)
    directory = os.stat(at.low('sub')).st_ino
    write(at.low('sub', 'new'), b'')
    os.rename(at.low('sub'), at.path('sub'))
    equal(os.stat(at.path('sub')).st_ino, directory)


@check
def path_descriptors(at):
    fd = os.open(at.low('a.txt'), os.O_PATH)
    equal(read(f'/proc/self/fd/{fd}'), b'hello lower\n')
    equal(os.readlink(f'/proc/self/fd/{fd}'), at.low('a.txt'))
    again = os.open(f'/proc/self/fd/{fd}', os.O_RDWR)
    os.write(again, b'JELLO')
    equal(read(at.low('a.txt')), b'JELLO lower\n')
    os.close(again)
    os.chmod(f'/proc/self/fd/{fd}', 0o600)
    equal(os.stat(at.low('a.txt')).st_mode & 0o777, 0o600)
    os.close(fd)
    fd = os.open(at.low('link'), os.O_PATH | os.O_NOFOLLOW)
    equal(os.readlink('', dir_fd=fd), 'a.txt')
    linkat(fd, '', at.path('same'), 0x1000)
    equal(os.readlink(at.path('same')), 'a.txt')
    os.close(fd)
    fd = os.open(at.low('sub'), os.O_PATH | os.O_DIRECTORY)
    equal(os.stat('b.txt', dir_fd=fd).st_size, 9)
    inner = os.open('made', os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(inner)
    equal(names(at.low('sub')), ['b.txt', 'deep', 'made'])
    os.close(fd)


@check
def threads_create(at):
    """200 threads, one directory, each its own files; then all of one file."""
    errors = []
    won = []

    def work(i):
        try:
            for j in range(5):
                write(at.path(f't{i}-{j}'), b'%d' % i)
                os.rename(at.path(f't{i}-{j}'), at.path(f'u{i}-{j}'))
            try:
                os.close(os.open(at.path('one'), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                won.append(i)
            except FileExistsError:
                pass
            os.close(os.open(at.path('shared'), os.O_CREAT | os.O_WRONLY))
            os.makedirs(at.path('deep', 'er'), exist_ok=True)
            equal(read(at.path(f'u{i}-0')), b'%d' % i)
            os.unlink(at.path(f'u{i}-0'))
        except BaseException as error:  # pylint: disable=broad-except
            errors.append(f'thread {i}: {error!r}')

    threads = [threading.Thread(target=work, args=(i,)) for i in range(200)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(errors[:3], [])
    equal(len(won), 1, 'winners of O_EXCL')
    equal(len(os.listdir(at.new)), 200 * 4 + 3)


@check
def threads_on_the_lower(at):
    """Threads that remove, read and list one tree of the lower at once: only ENOENT may happen to them."""
    for i in range(60):
        os.makedirs(at.low('many', f'd{i}'))
        for j in range(5):
            write(at.low('many', f'd{i}', f'f{j}'), b'x')
    errors = []

    def look():
        for _ in range(5):
            for directory, _, files in os.walk(at.low('many')):
                for f in files:
                    try:
                        equal(read(os.path.join(directory, f)), b'x')
                    except FileNotFoundError:
                        pass
                    except BaseException as error:  # pylint: disable=broad-except
                        errors.append(repr(error))

    lookers = [threading.Thread(target=look) for _ in range(4)]
    for t in lookers:
        t.start()
    shutil.rmtree(at.low('many'))
    for t in lookers:
        t.join()
    equal(errors[:3], [])
    fails(errno.ENOENT, os.stat, at.low('many'))


@check
def deep_tree(at):
    path = at.new
    for i in range(60):
        path = os.path.join(path, f'level-{i}')
        os.mkdir(path)
    write(os.path.join(path, 'bottom'), b'bottom')
    os.rename(at.path('level-0', 'level-1'), at.path('cut'))
    tail = os.path.join(at.path('cut'), *(f'level-{i}' for i in range(2, 60)))
    equal(read(os.path.join(tail, 'bottom')), b'bottom')
    shutil.rmtree(at.path('cut'))
    equal(names(at.new), ['level-0'])


@check
def parent_of_moved_directory(at):
    fd = os.open(at.low('sub', 'deep'), os.O_RDONLY | os.O_DIRECTORY)
    os.rename(at.low('sub', 'deep'), at.path('deep'))
    equal(os.stat('..', dir_fd=fd).st_ino, os.stat(at.new).st_ino)
    equal(os.readlink(f'/proc/self/fd/{fd}'), at.path('deep'))
    os.close(fd)


@check
def symlink_is_replaced(at):
    """A symlink under one name, again and again: no old target may come from the kernel's symlink cache."""
    for i in range(20):
        os.symlink(f'target-{i}', at.path('t'))
        os.replace(at.path('t'), at.low('link'))
        equal(os.readlink(at.low('link')), f'target-{i}')


@check
def root_entries(at):
    """Names in the root itself, where views meet."""
    top = os.path.join(at.root, 'top-' + os.path.basename(at.new))
    write(top, b'top')
    equal(read(top), b'top')
    assert os.path.basename(top) in os.listdir(at.root)
    os.rename(top, top + '2')
    fails(errno.ENOENT, os.stat, top)
    os.mkdir(top)
    os.rename(top + '2', os.path.join(top, 'in'))
    os.rename(at.lower, os.path.join(top, 'lower'))
    fails(errno.ENOENT, os.stat, at.lower)
    equal(names(os.path.join(top, 'lower')), LOWER)
    os.rename(os.path.join(top, 'lower'), at.lower)
    equal(names(top), ['in'])
    mode = os.stat(at.root).st_mode & 0o7777
    os.chmod(at.root, 0o750)
    equal(os.stat(at.root).st_mode & 0o7777, 0o750)
    os.chmod(at.root, mode)
    os.utime(at.root, ns=(5_000_000_001, 6_000_000_002))
    equal(os.stat(at.root).st_mtime_ns, 6_000_000_002)
    os.setxattr(at.root, 'user.root', b'yes')
    equal(os.getxattr(at.root, 'user.root'), b'yes')
    os.removexattr(at.root, 'user.root')
