/** `npm test -- ARGS`: sets up, then runs all tests, or those named; other arguments go to `node --test`. */
'use strict';

var childProcess = require('child_process');
var fs = require('fs');
var path = require('path');
var url = require('url');
var launch = require('../packages/rose/bin/launch.cjs');
var setup = require('./setup.cjs');

/** A test that hangs is stopped after this many milliseconds, and fails. */
var LIMIT_MS = 240000;

var ALL = ['packages/*/test/**/*.test.ts', 'test/**/*.test.ts'];

/** The page's tests drive a real Chromium; a machine without one gets it where Debian's packages can be installed. */
function installChromium() {
  if (process.env.ROSE_SKIP_BROWSER === '1') {
    setup.say('ROSE_SKIP_BROWSER=1: the page is not tested in a browser');
    return;
  }
  if (process.platform === 'win32') return;
  childProcess.spawnSync('sh', [path.join(__dirname, 'install-chromium.sh')], { stdio: ['ignore', 2, 2] });
}

function isPattern(argument) {
  return argument[0] !== '-' && (/[*]|\.ts$/.test(argument) || fs.existsSync(path.join(setup.root, argument)));
}

setup.withNode(function (node) {
  // Every test file, and every process that one starts, loads the same modules: what Node.js made of them is kept.
  process.env.NODE_COMPILE_CACHE = path.join(setup.root, 'node_modules', '.cache', 'compiled');
  installChromium();
  var args = process.argv.slice(2);
  var files = args.filter(isPattern);
  // Node.js takes everything after the first file for a file.
  var options = args.filter(function (argument) {
    return !isPattern(argument);
  });
  // Tests import kernels from their sources.
  var hook = '--import=' + url.pathToFileURL(path.join(setup.root, 'packages/cute/src/register.ts')).href;
  var flags = launch
    .nodeFlags(true)
    .concat(hook, '--test', '--test-concurrency=2', '--test-timeout=' + LIMIT_MS, options);
  launch.run(node, flags.concat(files.length > 0 ? files : ALL), { cwd: setup.root });
});
