/**
 * Run as a process: `list-tree DIR`. Prints the full listing of DIR (see tree-hash.ts) as JSON.
 *
 * A test that lists a mount's root itself would be pinned to the generation it saw first, so another process does it.
 */
import { listTree } from './tree-hash.js';

process.stdout.write(JSON.stringify([...listTree(process.argv[2]!)]));
