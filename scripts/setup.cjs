/**
 * Makes a checkout ready to run: installs the dependencies when the lockfile changed since the last time. Runs on the
 * machine's own Node.js (18 or newer), which need not be the one that Rose runs on: that one is a dependency.
 */
'use strict';

var childProcess = require('child_process');
var crypto = require('crypto');
var fs = require('fs');
var os = require('os');
var path = require('path');
var launch = require('../packages/rose/bin/launch.cjs');

var root = path.join(__dirname, '..');
var modules = path.join(root, 'node_modules');
/** What was installed, inside the directory that a removed or renewed installation takes with it. */
var stamp = path.join(modules, '.rose-lock');
var lock = path.join(root, '.cache', 'setup.lock');

/** Resolves to the path of the Node.js to run Rose with; installs first if need be. Ends the process if it cannot. */
async function setUp() {
  if (Number(process.versions.node.split('.')[0]) < 18) {
    launch.fail(
      'this is Node.js ' +
        process.versions.node +
        '. Setting Rose up needs Node.js 18 or newer with npm 10 or newer: ' +
        'see https://nodejs.org.',
      1,
    );
  }
  var node = installed();
  if (node) return node;
  var unlock = await acquire();
  try {
    node = installed();
    if (!node) {
      await install();
      node = workingNode();
      linkNode(node);
      fs.writeFileSync(stamp, JSON.stringify({ lock: fingerprint(), node: path.relative(root, node) }) + '\n');
    }
    return node;
  } finally {
    unlock();
  }
}

/** The Node.js of an installation that fits the lockfile, or undefined. */
function installed() {
  try {
    var found = JSON.parse(fs.readFileSync(stamp, 'utf8'));
    if (found.lock === fingerprint() && fs.existsSync(path.resolve(root, found.node)))
      return path.resolve(root, found.node);
  } catch {
    // No stamp, or half of one: install.
  }
  return undefined;
}

/** Hash of the lockfile and of what else decides what npm installs; line ends do not count. */
function fingerprint() {
  var text = fs.readFileSync(path.join(root, 'package-lock.json'), 'utf8').replace(/\r\n/g, '\n');
  var hash = crypto.createHash('sha256').update(text).digest('hex');
  return [hash, process.platform, process.arch].join(' ');
}

/** The platform package's Node.js if it runs here (it needs glibc on Linux), else this one if it is new enough. */
function workingNode() {
  var node = launch.platformNode(root);
  var why = 'npm installed no Node.js for ' + process.platform + '-' + process.arch;
  if (node) {
    var probe = childProcess.spawnSync(node, ['--version'], { encoding: 'utf8' });
    if (probe.status === 0) return node;
    why =
      node + ' does not run on this machine (' + String(probe.error ? probe.error.message : probe.stderr).trim() + ')';
  }
  if (launch.newEnough(process.versions.node)) return process.execPath;
  return launch.fail(
    why +
      ', and this Node.js, ' +
      process.versions.node +
      ', is older than ' +
      launch.OLDEST.join('.') +
      '. Install a newer Node.js (https://nodejs.org) and run the command again.',
    1,
  );
}

/** npm's scripts find programs in `.bin` first. npm 11 links this one there; npm 10 takes the link away again. */
function linkNode(node) {
  var link = path.join(modules, '.bin', 'node');
  if (process.platform === 'win32' || node === process.execPath || fs.existsSync(link)) return;
  fs.mkdirSync(path.dirname(link), { recursive: true });
  fs.symlinkSync(path.relative(path.dirname(link), node), link);
}

/** `npm ci`, its errors explained. */
async function install() {
  var npm = npmCommand();
  var args = npm.args.concat(
    'ci',
    '--include=dev',
    '--include=optional',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  );
  say('installing what package-lock.json lists (about 600 MB, once; half a minute on a fast line)');
  var started = Date.now();
  var ticker = process.stderr.isTTY
    ? setInterval(function () {
        process.stderr.write('\rrose: installing, ' + Math.round((Date.now() - started) / 1000) + ' s ');
      }, 1000)
    : undefined;
  var result = await npmRun(npm.file, args, npm.shell);
  clearInterval(ticker);
  if (ticker) process.stderr.write('\r\u001b[K');
  if (result.error || result.code !== 0) {
    if (!result.error) process.stderr.write(result.output);
    launch.fail(explain(result) + ' Then run the same command again.', 1);
  }
  say('installed in ' + Math.round((Date.now() - started) / 1000) + ' s');
}

/**
 * The npm that runs us, else the one in PATH. It must not run on the Node.js inside node_modules, which it is about to
 * replace.
 */
function npmCommand() {
  var script = process.env.npm_execpath;
  var nodes = [process.env.npm_node_execpath, process.execPath].filter(function (file) {
    return file && fs.existsSync(file) && fs.realpathSync(file).indexOf(fs.realpathSync(root) + path.sep) !== 0;
  });
  if (script && /npm-cli\.c?js$/.test(script) && fs.existsSync(script) && nodes.length > 0) {
    return { file: nodes[0], args: [script], shell: false };
  }
  return { file: 'npm', args: [], shell: process.platform === 'win32' };
}

/** Standard output of npm goes nowhere: ours belongs to the command that is set up for. */
function npmRun(file, args, shell) {
  return new Promise(function (resolve) {
    var output = '';
    var child = childProcess.spawn(file, args, { cwd: root, shell: shell, stdio: ['ignore', 'ignore', 'pipe'] });
    // npm outlives us if we are killed: then the lock is still its own.
    if (child.pid) fs.appendFileSync(lock, ' ' + child.pid);
    child.stderr.on('data', function (data) {
      output += data;
    });
    var signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    function stop(signal) {
      child.kill(signal);
      child.once('close', function () {
        process.exit(128 + os.constants.signals[signal]);
      });
    }
    function end(result) {
      signals.forEach(function (signal) {
        process.removeListener(signal, stop);
      });
      resolve(result);
    }
    signals.forEach(function (signal) {
      process.on(signal, stop);
    });
    child.on('error', function (error) {
      end({ error: error, output: output });
    });
    child.on('close', function (code, signal) {
      end({ code: code, signal: signal, output: output });
    });
  });
}

/** What to do about npm's error, by the codes it prints. */
function explain(result) {
  if (result.error) {
    return result.error.code === 'ENOENT'
      ? 'npm was not found. Install npm 10 or newer; it comes with Node.js (https://nodejs.org).'
      : 'npm could not be started: ' + result.error.message + '.';
  }
  var causes = [
    [
      /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT|ENOTCACHED)\b/,
      "npm could not reach its package registry, which the first run needs. Check the network and npm's settings for " +
        'a proxy or a mirror (npm config get registry).',
    ],
    [
      /\bEUSAGE\b/,
      'package.json and package-lock.json do not fit each other. In a fresh checkout, restore both from git; after ' +
        'changing dependencies, renew the lockfile as CONTRIBUTING.md says.',
    ],
    [/\bENOSPC\b/, 'the disk is full: the installation takes about 600 MB in ' + modules + '.'],
    [/\b(EACCES|EPERM|EROFS)\b/, 'npm may not write to ' + modules + ' or to its cache: look at their owner and mode.'],
    [/\bEBADPLATFORM\b/, 'a dependency does not exist for ' + process.platform + '-' + process.arch + '.'],
    [/\b(EINTEGRITY|ECOMPROMISED)\b/, 'a downloaded package is damaged. Try npm cache clean --force.'],
    [/\b(E401|E403|E404|ETARGET)\b/, "the package registry refused or lacks a package: see npm's message above."],
  ];
  for (var i = 0; i < causes.length; i += 1) {
    if (causes[i][0].test(result.output)) return causes[i][1];
  }
  return 'npm ci failed (' + (result.signal || 'exit code ' + result.code) + "): see npm's message above.";
}

/** Waits until no other set-up runs in this checkout; resolves to the function that lets the next one in. */
async function acquire() {
  fs.mkdirSync(path.dirname(lock), { recursive: true });
  for (var told = false; !take(); told = true) {
    var owners = ownersOf(lock);
    if (owners && !owners.some(alive)) {
      evict(owners);
      continue;
    }
    if (!told) say('waiting for another set-up of this checkout (process ' + owners + ')');
    await new Promise(function (resolve) {
      setTimeout(resolve, 200);
    });
  }
  function release() {
    fs.rmSync(lock, { force: true });
  }
  process.once('exit', release);
  return function () {
    process.removeListener('exit', release);
    release();
  };
}

/** A link appears whole or not at all, so a lock is never seen without its owner's number. */
function take() {
  var own = lock + '.' + process.pid;
  fs.writeFileSync(own, String(process.pid));
  try {
    fs.linkSync(own, lock);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  } finally {
    fs.rmSync(own, { force: true });
  }
}

/** Numbers of the processes that hold a lock, or undefined if it is gone. */
function ownersOf(file) {
  try {
    return fs.readFileSync(file, 'utf8').split(' ').map(Number);
  } catch {
    return undefined;
  }
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Removes the lock of processes that ended without doing so, unless another one replaced it meanwhile. */
function evict(owners) {
  var aside = lock + '.stale.' + process.pid;
  try {
    fs.renameSync(lock, aside);
    if (String(ownersOf(aside)) !== String(owners)) fs.linkSync(aside, lock);
    fs.rmSync(aside, { force: true });
  } catch (error) {
    if (error.code !== 'ENOENT' && error.code !== 'EEXIST') throw error;
  }
}

function say(message) {
  process.stderr.write('rose: ' + message + '\n');
}

/** Sets up, then does `program(node)`; an error ends the process with one line. */
function withNode(program) {
  setUp()
    .then(program)
    .catch(function (error) {
      launch.fail('the set-up failed: ' + error.message, 1);
    });
}

module.exports = { fingerprint: fingerprint, root: root, say: say, stamp: stamp, withNode: withNode };

if (require.main === module) withNode(function () {});
