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

/**
 * Tests whose engines have a thread on every core. Beside another test each step of theirs waits for the other's turn on a
 * core, and takes twenty times as long: they run one after the other, before the rest.
 */
var ALONE = ['exact', 'exact-engine'].map(function (name) {
  return path.join('packages', 'engine', 'test', name + '.test.ts');
});

/** Paths of all tests in a folder, from the root. */
function testsIn(folder) {
  var names = fs.readdirSync(path.join(setup.root, folder), { withFileTypes: true });
  return names.reduce(function (found, entry) {
    var name = path.join(folder, entry.name);
    if (entry.isDirectory() && entry.name !== 'node_modules') return found.concat(testsIn(name));
    return entry.name.endsWith('.test.ts') ? found.concat(name) : found;
  }, []);
}

function allTests() {
  var packages = fs.readdirSync(path.join(setup.root, 'packages')).map(function (name) {
    return path.join('packages', name, 'test');
  });
  return packages
    .concat('test')
    .filter(function (folder) {
      return fs.existsSync(path.join(setup.root, folder));
    })
    .reduce(function (found, folder) {
      return found.concat(testsIn(folder));
    }, []);
}

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
  function flags(concurrency) {
    var limits = ['--test-concurrency=' + concurrency, '--test-timeout=' + LIMIT_MS];
    return launch.nodeFlags(true).concat(hook, '--test', limits, options);
  }
  if (files.length > 0) return launch.run(node, flags(2).concat(files), { cwd: setup.root });

  var alone = childProcess.spawnSync(node, flags(1).concat(ALONE), { cwd: setup.root, stdio: 'inherit' });
  if (alone.signal) return process.kill(process.pid, alone.signal);
  process.on('exit', function (code) {
    if (code === 0) process.exitCode = alone.status;
  });
  var rest = allTests().filter(function (file) {
    return ALONE.indexOf(file) < 0;
  });
  launch.run(node, flags(2).concat(rest), { cwd: setup.root });
});
