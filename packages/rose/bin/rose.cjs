#!/usr/bin/env node
/**
 * The `rose` command as npm links it. On a Node.js that is new enough the command runs right here; on an older one it
 * runs on the Node.js that was installed with it. In a checkout it runs the TypeScript sources.
 */
'use strict';

var fs = require('fs');
var path = require('path');
var url = require('url');
var launch = require('./launch.cjs');

var home = path.join(__dirname, '..');
var source = path.join(home, 'src', 'main.ts');
var compiled = path.join(home, 'dist', 'main.js');
var development = fs.existsSync(source);
var program = development ? source : compiled;
var args = process.argv.slice(2);

launch.keepCompiled();
if (launch.newEnough(process.versions.node) && !development) {
  import(url.pathToFileURL(program).href).catch(function (error) {
    launch.fail(String((error && error.stack) || error), 1);
  });
} else {
  var node = launch.platformNode(__dirname);
  if (!node && launch.newEnough(process.versions.node)) node = process.execPath;
  if (!node) {
    launch.fail(
      'this is Node.js ' +
        process.versions.node +
        ' on ' +
        process.platform +
        '-' +
        process.arch +
        '; Rose runs on ' +
        launch.OLDEST.join('.') +
        ' or newer. The Node.js that comes with Rose as an optional dependency is not ' +
        'installed: install Rose again without --omit=optional, or use a newer Node.js (https://nodejs.org).',
      1,
    );
  }
  launch.run(node, launch.nodeFlags(development).concat(program, args));
}
