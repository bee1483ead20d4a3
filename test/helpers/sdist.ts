/** Writes a source tree with a setup.py, for `python setup.py install` and `develop`. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface SdistOptions {
  name: string;
  version: string;
  /** By path in the source tree; packages are found by their `__init__.py`. */
  files: Record<string, string | Buffer>;
  /** Console scripts: name → `module:function`. */
  entryPoints?: Record<string, string>;
  /** Python code put before `setup()`: to fail, to wait, to write. */
  before?: string;
  /** The tree is made in it, as NAME-VERSION. */
  dir: string;
}

/** The tree's path. */
export function writeSdist({ name, version, files, entryPoints = {}, before = '', dir }: SdistOptions): string {
  const root = join(dir, `${name}-${version}`);
  const scripts = Object.entries(entryPoints).map(([script, target]) => `${script} = ${target}`);
  // A JSON string is a Python string, and a list of them a list.
  const modules = Object.keys(files)
    .filter((path) => /^[^/]+\.py$/.test(path))
    .map((path) => path.slice(0, -3));
  const setup = `${before}
from setuptools import find_packages, setup

setup(
    name=${JSON.stringify(name)},
    version=${JSON.stringify(version)},
    packages=find_packages(),
    py_modules=${JSON.stringify(modules)},
    include_package_data=False,
    package_data={'': ['*']},
    zip_safe=False,
    entry_points={'console_scripts': ${JSON.stringify(scripts)}},
)
`;
  for (const [path, content] of Object.entries({ ...files, 'setup.py': setup })) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return root;
}
