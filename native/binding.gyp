# The addon and the sandbox, built by mount-scripts/build-native. This lives here and not at the root, where npm would build
# it by itself. Every .cc of the four folders belongs to the addon; only addon*.cc may include Node's headers.
{
  'targets': [
    {
      'target_name': 'siteswap',
      'sources': [
        '<!@(node -p "[\'.\',\'fuse\',\'overlay\',\'process\',\'sys\'].flatMap(d => require(\'fs\').readdirSync(d).filter(f => f.endsWith(\'.cc\')).sort().map(f => d === \'.\' ? f : d + \'/\' + f)).join(\' \')")',
      ],
      'include_dirs': [
        '.',
        '<!(node -p "require(\'node-addon-api\').include_dir")',
      ],
      # Node-API calls report by status; the standard library may still throw (bad_alloc), and handlers catch that.
      'defines': ['NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS', 'NAPI_VERSION=8', '_FILE_OFFSET_BITS=64'],
      'cflags!': ['-O3'],
      'cflags_cc!': ['-fno-exceptions', '-std=gnu++14', '-std=gnu++17', '-std=gnu++20', '-O3'],
      'cflags_cc': [
        '-std=c++20',
        '-fexceptions',
        '-O2',
        '-g1',
        '-Wall',
        '-Wextra',
        '-Wno-unused-parameter',
        '-fvisibility=hidden',
      ],
      'ldflags': ['-pthread'],
    },
    # A program of its own, and small: it runs with the rights of who mounted, beside code that nobody trusts.
    {
      'target_name': 'siteswap-sandbox',
      'type': 'executable',
      'sources': [
        '<!@(node -p "require(\'fs\').readdirSync(\'sandbox\').filter(f => f.endsWith(\'.cc\')).sort().map(f => \'sandbox/\' + f).join(\' \')")',
        'process/pidfd.cc',
        'process/proc_files.cc',
      ],
      'include_dirs': ['.'],
      'defines': ['_FILE_OFFSET_BITS=64'],
      'cflags!': ['-O3'],
      'cflags_cc!': ['-fno-exceptions', '-std=gnu++14', '-std=gnu++17', '-std=gnu++20', '-O3'],
      'cflags_cc': ['-std=c++20', '-fexceptions', '-O2', '-g1', '-Wall', '-Wextra'],
      'ldflags': ['-pie', '-Wl,-z,relro,-z,now'],
    },
  ],
}
