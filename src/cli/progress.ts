/**
 * Progress of long work on a terminal, on stderr. When stderr is no terminal nothing is shown (and listr2 not loaded),
 * so that scripts and logs stay clean.
 */
import type { Progress } from '../daemon/control-protocol.js';

export type Report = (text: string) => void;

/** Runs `work` under a title; what it reports is shown beside the title, and all of it is gone in the end. */
export async function withProgress<T>(title: string, work: (report: Report) => Promise<T>): Promise<T> {
  if (!process.stderr.isTTY) return work(() => {});
  const { Listr, ListrLogger, ProcessOutput } = await import('listr2');
  const logger = new ListrLogger({
    useIcons: true,
    toStderr: [],
    processOutput: new ProcessOutput(process.stderr, process.stderr),
  });
  // What `work` gave or threw is kept here: the list is for showing only.
  let outcome: Promise<T> | undefined;
  const list = new Listr(
    [
      {
        title,
        task: async (_context, task): Promise<void> => {
          outcome = work((text) => (task.title = `${title}: ${text}`));
          await outcome.catch(() => {});
        },
      },
    ],
    { registerSignalListeners: false, renderer: 'default', rendererOptions: { clearOutput: true, logger } },
  );
  await list.run();
  return outcome!;
}

/** The steps of a commit, as the server tells them. */
export function withCommitSteps<T>(work: (onEvent: (event: Progress) => void) => Promise<T>): Promise<T> {
  return withProgress('commit', (report) =>
    work(({ name, detail }) => report(detail === undefined ? name : `${name}: ${detail}`)),
  );
}
