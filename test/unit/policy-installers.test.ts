import assert from 'node:assert/strict';
import { test } from 'node:test';
import { looksLikeInstaller, pythonTarget } from '../../src/policy/installers.js';

/** The executable and comm as the kernel would show them for a script run by Python. */
function python(command: string): Parameters<typeof looksLikeInstaller>[0] {
  return { argv: command.split(' '), exe: '/usr/bin/python3.11', comm: 'python3' };
}

function binary(command: string, exe?: string): Parameters<typeof looksLikeInstaller>[0] {
  const argv = command.split(' ');
  const program = argv[0] ?? '';
  return { argv, exe: exe ?? program, comm: program.slice(program.lastIndexOf('/') + 1, 15) };
}

const PYTHON_PROGRAMS: readonly (readonly [string, string | null])[] = [
  ['/venv/bin/python /venv/bin/pip install x', 'pip'],
  ['/venv/bin/python3 /venv/bin/pip3 install x', 'pip'],
  ['/venv/bin/python3.11 /venv/bin/pip3.11 install x', 'pip'],
  ['python -m pip install x', 'pip'],
  ['python -I -m pip install x', 'pip'],
  ['python -Im pip install x', 'pip'],
  ['python -W ignore -X utf8 -m pip install x', 'pip'],
  ['python -Wignore -Xutf8 -mpip install x', 'pip'],
  ['python --check-hash-based-pycs never -m pip install x', 'pip'],
  ['python3.13t -m pip install x', 'pip'],
  ['pypy3 -m pip install x', 'pip'],
  ['python /tmp/x/pip/__main__.py install x', 'pip'],
  ['python /tmp/pip-24.0-py3-none-any.whl/pip install x', 'pip'],
  ['python -m pip._internal.cli install x', 'pip'],
  ['python /usr/local/bin/poetry install', 'poetry'],
  ['python /usr/local/bin/poetry run python app.py', null],
  ['python /usr/local/bin/poetry shell', null],
  ['python -m poetry add x', 'poetry'],
  ['python /usr/bin/pdm sync', 'pdm'],
  ['python /usr/bin/hatch env create', 'hatch'],
  ['python /usr/bin/flit install', 'flit'],
  ['python /usr/bin/pipx install black', 'pipx'],
  ['python /usr/bin/pipenv install', 'pipenv'],
  ['python /usr/bin/pipenv shell', null],
  ['/opt/conda/bin/python /opt/conda/bin/conda install numpy', 'conda'],
  ['/opt/conda/bin/python /opt/conda/bin/conda run -n x app', null],
  ['python setup.py install', 'setup.py'],
  ['python -u ./setup.py develop', 'setup.py'],
  ['python -c exec(compile("setuptools\\n/tmp/x/setup.py",1)) develop', 'setup.py'],
  ['python /usr/bin/easy_install x', 'easy_install'],
  ['python /usr/bin/easy_install-3.11 x', 'easy_install'],
  ['python -m ensurepip --upgrade', 'ensurepip'],
  ['python -m venv /tmp/v', 'virtualenv'],
  ['python bin/buildout', 'buildout'],
  ['python /usr/bin/spack install x', 'spack'],
  ['/usr/bin/python3 /usr/bin/unattended-upgrade', 'apt'],
  ['/usr/bin/python3 /usr/bin/dnf install x', 'dnf'],
  ['/usr/bin/python3 /usr/bin/yum install x', 'yum'],
  ['python -m maturin develop', 'maturin'],
  ['python -m maturin build', null],
  // No installers.
  ['python app.py', null],
  ['python', null],
  ['python -', null],
  ['python -m', null],
  ['python -c print(1)', null],
  ['python -m build', null],
  ['python -m http.server', null],
  ['python -m pytest pip', null],
  ['python app.py pip install', null],
  ['python /home/pip/app.py', null],
  ['python /home/u/my-pip', null],
  ['python -m mypip', null],
  ['python -W pip app.py', null],
  ['python -X -m app.py', null],
];

for (const [command, expected] of PYTHON_PROGRAMS) {
  test(`${command} → ${expected}`, () => assert.equal(looksLikeInstaller(python(command)), expected));
}

const PROGRAMS: readonly (readonly [string, string | null])[] = [
  ['/usr/local/bin/uv pip install x', 'uv'],
  ['uv sync', 'uv'],
  ['uv run app', null],
  ['uvx black', null],
  ['/usr/bin/apt-get install python3-x', 'apt'],
  ['apt install x', 'apt'],
  ['aptitude install x', 'apt'],
  ['/usr/bin/dpkg --unpack x.deb', 'dpkg'],
  ['rpm -i x.rpm', 'rpm'],
  ['dnf-3 install x', 'dnf'],
  ['microdnf install x', 'dnf'],
  ['pacman -S x', 'pacman'],
  ['apk add x', 'apk'],
  ['micromamba install x', 'micromamba'],
  ['mamba install x', 'mamba'],
  ['maturin develop', 'maturin'],
  ['maturin build', null],
  ['/bin/sh /usr/local/bin/pip install x', 'pip'],
  ['/bin/bash', null],
  ['-bash', null],
  ['cp -r a b', null],
  ['tar xf pip.tar', null],
  ['rsync -a uv /x', null],
  ['vim pip', null],
  ['sh -c pip install x', null],
  ['make install', null],
];

for (const [command, expected] of PROGRAMS) {
  test(`${command} → ${expected}`, () => assert.equal(looksLikeInstaller(binary(command)), expected));
}

test('a program that rewrote its arguments is known by its executable', () => {
  assert.equal(looksLikeInstaller({ argv: [''], exe: '/usr/bin/dpkg', comm: 'x' }), 'dpkg');
  assert.equal(looksLikeInstaller({ argv: [], exe: '/opt/uv (deleted)', comm: 'x' }), 'uv');
  assert.equal(looksLikeInstaller({ argv: [], exe: null, comm: 'pacman' }), 'pacman');
});

test('argv[0] names the installer although Python runs it', () => {
  assert.equal(looksLikeInstaller({ argv: ['/venv/bin/pip', 'install'], exe: '/usr/bin/python3', comm: 'pip' }), 'pip');
});

test('nothing is known', () => assert.equal(looksLikeInstaller({ argv: [], exe: null, comm: '' }), null));

test('pythonTarget keeps the arguments of the target', () => {
  assert.deepEqual(pythonTarget(['python', '-Bm', 'pip', 'install']), {
    kind: 'module',
    name: 'pip',
    args: ['install'],
  });
  assert.deepEqual(pythonTarget(['python', '--', '-m', 'pip']), { kind: 'script', name: '-m', args: ['pip'] });
  assert.equal(pythonTarget(['python', '-W']), null);
});
