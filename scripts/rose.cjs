/** `npm run rose -- ARGS`: the `rose` command in a checkout, which is set up first. */
'use strict';

var path = require('path');
var launch = require('../packages/rose/bin/launch.cjs');
var setup = require('./setup.cjs');

/** Runs the command where the user stands: npm itself changes to the checkout's root. */
function rose(args) {
  setup.withNode(function (node) {
    var program = path.join(setup.root, 'packages', 'rose', 'src', 'main.ts');
    var flags = launch.nodeFlags(true);
    launch.run(node, flags.concat(program, args), { cwd: process.env.INIT_CWD || process.cwd() });
  });
}

module.exports = { rose: rose };

if (require.main === module) rose(process.argv.slice(2));
