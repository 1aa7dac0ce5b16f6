# Not a second build description. The build is native/CMakeLists.txt; this only calls it, for anyone who types node-gyp rebuild.
{
  'targets': [{
    'target_name': 'cmake',
    'type': 'none',
    'actions': [{
      'action_name': 'build_native',
      'inputs': ['native/CMakeLists.txt'],
      'outputs': ['<(PRODUCT_DIR)/always_ask_cmake'],
      'action': ['npm', 'run', '--silent', 'build:native'],
    }],
  }],
}
