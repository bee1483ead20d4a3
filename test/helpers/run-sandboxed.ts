/** A program: runs what its argument asks for in a sandbox, and prints the outcome, both as JSON. For tests of other users. */
import { runSandboxed, type SandboxOptions } from '../../src/verifier/sandbox.js';

const options = JSON.parse(process.argv[2] ?? '') as SandboxOptions;
const onReady = async (pid: number): Promise<void> => void process.stderr.write(`sandbox ${pid}\n`);
process.stdout.write(JSON.stringify(await runSandboxed({ ...options, onReady })));
