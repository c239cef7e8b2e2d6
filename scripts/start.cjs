/** `npm start -- ARGS`: `rose serve ARGS`, by default with the bundled models, in a checkout that is set up first. */
'use strict';

require('./rose.cjs').rose(['serve'].concat(process.argv.slice(2)));
