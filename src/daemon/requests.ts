/** What the server does for each method of the control protocol. Called by control-server. */
import type { Backend, Engine, SessionInfo } from '../fuse/backend.js';
import type { Store } from '../store/store.js';
import type { Transaction } from '../txn/transaction.js';
import { describeTransaction } from '../txn/transaction.js';
import type { Transactions } from '../txn/transactions.js';
import { SiteswapError } from '../util/errors.js';
import { packageVersion } from '../util/package-root.js';
import type { Params, Progress, Request, Result, TransactionStatus } from './control-protocol.js';
import type { MountOptions } from './keeper-protocol.js';
import { describeProcess } from './processes.js';

/** `unmount` waits so long for a transaction that is about to end. */
const UNMOUNT_PATIENCE_MS = 10_000;

export interface RequestContext {
  options: MountOptions;
  store: Store;
  backend: Backend;
  engine: Engine;
  session: SessionInfo;
  transactions: Transactions;
  /** An older generation is served: nothing may be changed. */
  readOnly: boolean;
  health: () => string[];
  unmount: (lazy: boolean) => Promise<void>;
}

export async function handleRequest(
  context: RequestContext,
  request: Request,
  onEvent: (event: Progress) => void,
): Promise<unknown> {
  switch (request.method) {
    case 'status':
      return status(context);
    case 'begin':
      return begin(context, request.params);
    case 'commit':
      return commit(context, request.params, onEvent);
    case 'abort':
      return abort(context, request.params);
    case 'wait':
      await context.transactions.settled(request.params.timeoutMs);
      return { generation: context.store.head } satisfies Result<'wait'>;
    case 'log':
      return { generations: await context.store.history(request.params.limit) } satisfies Result<'log'>;
    case 'unmount':
      return unmount(context, request.params);
  }
}

function status({ options, store, backend, engine, session, transactions, health }: RequestContext): Result<'status'> {
  return {
    mountpoint: options.directory,
    store: options.store,
    generation: options.generation ?? store.head,
    transactions: transactions.list().map((transaction) => transactionStatus(engine, transaction)),
    pins: engine.pins().map((pin) => ({ ...pin, command: describeProcess(pin.pid)?.command.join(' ') ?? '' })),
    health: health(),
    features: session.features,
    kernel: { minor: session.minor },
    counters: engine.counters(),
    backend: backend.name,
    commit: options.commit,
    serverPid: process.pid,
    version: packageVersion(),
  };
}

function transactionStatus(engine: Engine, transaction: Transaction): TransactionStatus {
  const { id, state, command, pid, base, reason } = transaction;
  const common = { id, state, command: [...command], rootPid: pid, base, reason };
  try {
    const { members, mutations } = engine.transactionInfo(id);
    return { ...common, members, mutations };
  } catch (error) {
    // Published a moment ago, and not yet tidied away.
    if (state !== 'committing') throw error;
    return { ...common, members: [], mutations: 0 };
  }
}

async function begin(context: RequestContext, params: Params<'begin'>): Promise<Result<'begin'>> {
  if (context.readOnly) {
    throw new SiteswapError('BUSY', 'an older generation is mounted, read-only', 'Mount again without --generation.');
  }
  const process = describeProcess(params.pid);
  if (process === null) {
    throw new SiteswapError('NO_TRANSACTION', `there is no process ${params.pid}`, 'Give a live one with --pid.');
  }
  if (context.transactions.hasRoot(params.pid)) {
    throw new SiteswapError('BUSY', `process ${params.pid} has a transaction already`, 'See `siteswap status`.');
  }
  const transaction = await context.transactions.begin({
    pid: params.pid,
    uid: process.uid,
    gid: process.gid,
    command: params.command ?? process.command,
    // Whoever asks for the commit is told by its answer.
    terminal: null,
    when: 'explicit',
  });
  return { transaction: transaction.id, token: transaction.token ?? '' };
}

function commit(
  { transactions }: RequestContext,
  { transaction, force = false }: Params<'commit'>,
  onEvent: (event: Progress) => void,
): Promise<Result<'commit'>> {
  const id =
    transaction ??
    theOnly(
      transactions.list().filter(({ state, when }) => {
        if (state === 'refused') return force;
        return state === 'staged' || (state === 'open' && when === 'explicit');
      }),
      'commit',
    );
  return transactions.commit(id, force, (name, of) => onEvent({ type: 'step', transaction: of, name }));
}

async function abort({ transactions }: RequestContext, params: Params<'abort'>): Promise<Result<'abort'>> {
  const id =
    params.transaction ??
    theOnly(
      transactions.list().filter(({ state }) => state !== 'committing'),
      'abort',
    );
  await transactions.abort(id);
  return { transaction: id };
}

/** Without a number, there must be exactly one that can be meant. */
function theOnly(candidates: Transaction[], verb: string): number {
  const [first, ...others] = candidates;
  if (first && others.length === 0) return first.id;
  if (!first) throw new SiteswapError('NO_TRANSACTION', `there is no transaction to ${verb}`, 'See `siteswap status`.');
  throw new SiteswapError(
    'NO_TRANSACTION',
    `more than one transaction can be meant: ${candidates.map(describeTransaction).join(', ')}`,
    `Say which: \`siteswap ${verb} DIR ID\`.`,
  );
}

async function unmount(context: RequestContext, { force, lazy }: Params<'unmount'>): Promise<Result<'unmount'>> {
  const { transactions } = context;
  if (force) {
    await transactions.abortOpen();
  } else {
    const open = await transactions.stillOpen(UNMOUNT_PATIENCE_MS);
    if (open.length > 0) {
      throw new SiteswapError(
        'BUSY',
        `still open: ${open.map(describeTransaction).join(', ')}`,
        'Wait for it with `siteswap wait`, or drop it with `siteswap unmount --force`.',
      );
    }
  }
  await context.unmount(lazy);
  return {};
}
