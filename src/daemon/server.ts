/**
 * The server: the engine's policy half. It turns the engine's events into transactions and commits, and answers the
 * control socket. Requests of committed views never come here.
 *
 * Invariants: it never touches its own mountpoint (cwd is /, the lower is an inherited descriptor, the store lies
 * outside); every `writer-appeared` gets exactly one decision; it ends when the session ends, and only then.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { Backend, Engine, EngineEvent, SessionInfo } from '../fuse/backend.js';
import { TransactionNumbers } from '../store/starts.js';
import { Store } from '../store/store.js';
import type { Verify } from '../txn/commit.js';
import { Transactions } from '../txn/transactions.js';
import { systemClock } from '../util/clock.js';
import { asStoreError, describe } from '../util/errors.js';
import { CUT_OFF_MS } from '../util/limits.js';
import { ControlServer } from './control-server.js';
import type { KeeperLink } from './keeper-link.js';
import { mountedOn } from './mountinfo.js';
import type { MountOptions } from './keeper-protocol.js';
import { BackgroundCheck } from './lower-check.js';
import { handleRequest } from './requests.js';
import { SERVER_FDS } from './server-fds.js';
import { tellTerminal } from './terminal.js';
import { Writers, type WritersOptions } from './writers.js';

export interface ServerOptions {
  mount: MountOptions;
  deviceFd: number;
  /** The files of the lower are still to be compared with the store. */
  filesUnchecked: boolean;
  backend: Backend;
  disable: Parameters<Backend['createEngine']>[0]['disable'];
  keeper: Pick<KeeperLink, 'send' | 'unmount' | 'lost'>;
  readChain: WritersOptions['readChain'];
  createVerify: (engine: Engine) => Verify;
  log: (text: string) => void;
}

/** Resolves with the exit code when the session has ended. */
export async function runServer(options: ServerOptions): Promise<number> {
  const { store } = options.mount;
  const server = await Server.start(options).catch((error: unknown) => {
    throw asStoreError(error, `the store ${store} can't be used`);
  });
  options.keeper.send({ type: 'serving' });
  return server.ended;
}

class Server {
  readonly ended: Promise<number>;
  #end!: (code: number) => void;
  #stopping = false;
  #over = false;
  #lastError: string | null = null;
  #lowerCheck: BackgroundCheck | null = null;

  private constructor(
    private readonly options: ServerOptions,
    private readonly engine: Engine,
    private readonly transactions: Transactions,
    private readonly writers: Writers,
    private readonly store: Store,
  ) {
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  static async start(options: ServerOptions): Promise<Server> {
    const { mount, backend } = options;
    const store = await Store.attach(mount.store);
    const generation = mount.generation ?? store.head;
    const { maxMtimeNs } = await store.generation(store.head);
    const start = await store.takeStart();

    // Events can't come before the engine is started, and by then there is a server to take them.
    let server: Server | null = null;
    const engine = backend.createEngine(
      {
        deviceFd: options.deviceFd,
        lowerFd: SERVER_FDS.lower,
        layersDir: store.layout.layers,
        manifestsDir: store.layout.manifests,
        liveDir: store.layout.live,
        generation,
        firstIno: start.firstIno,
        inoCount: start.inoCount,
        maxMtimeNs: BigInt(maxMtimeNs),
        disable: options.disable,
        pin: mount.pin,
      },
      (event) => server?.onEvent(event),
    );
    const numbers = new TransactionNumbers(start, () => store.takeStart());
    const storeFd = openSync(store.layout.root, constants.O_RDONLY | constants.O_DIRECTORY);
    const transactions = new Transactions({
      store,
      engine,
      directory: mount.directory,
      verify: options.createVerify(engine),
      verifiers: availableParallelism(),
      sync: () => backend.syncFilesystem(storeFd),
      clock: systemClock,
      mode: mount.commit,
      nextId: () => numbers.next(),
      log: options.log,
      tell: ({ terminal }, lines) => {
        if (terminal !== null) tellTerminal(terminal, lines);
      },
    });
    const readOnly = generation !== store.head;
    const writers = new Writers({ transactions, engine, readChain: options.readChain, readOnly, log: options.log });
    server = new Server(options, engine, transactions, writers, store);
    if (!readOnly) await transactions.restore();
    const session = await engine.start();
    await server.#serve(session, readOnly);
    void server.ended.then(() => closeSync(storeFd));
    return server;
  }

  async #serve(session: SessionInfo, readOnly: boolean): Promise<void> {
    const { mount, backend, keeper, log } = this.options;
    const { engine, store, transactions } = this;
    const context = {
      options: mount,
      store,
      backend,
      engine,
      session,
      transactions,
      readOnly,
      health: () => this.#health(),
      unmount: (lazy: boolean) => keeper.unmount(lazy),
      cutOff: () => this.#cutOff(),
    };
    const control = await ControlServer.listen({
      storePath: mount.store,
      peerUid: (fd) => backend.peerCredentials(fd).uid,
      handle: (request, onEvent) => handleRequest(context, request, onEvent),
    });
    void this.ended.then(() => control.close());
    log(`serving ${mount.directory}, FUSE 7.${session.minor}, ${session.features.join(' ') || 'no extra features'}`);
    process.on('SIGTERM', () => void this.#terminate());
    if (this.options.filesUnchecked) {
      const { directory } = mount;
      this.#lowerCheck = new BackgroundCheck({ store, backend, directory, lowerFd: SERVER_FDS.lower, log });
    }
  }

  onEvent(event: EngineEvent): void {
    switch (event.type) {
      case 'writer-appeared':
        void this.writers.onWriter(event);
        return;
      case 'root-exited':
        this.transactions.rootExited(event.transaction, event.exitCode, event.signal);
        return;
      case 'session-stopped':
        void this.#stopped(event.reason);
        return;
      case 'log':
        this.options.log(`engine: ${event.text}`);
        return;
    }
  }

  #health(): string[] {
    const health: string[] = [];
    if (this.options.keeper.lost) health.push('the keeper has died: a crash of the server would break the mount');
    if (this.#lastError !== null) health.push(this.#lastError);
    if (this.#lowerCheck?.problem) health.push(this.#lowerCheck.problem);
    for (const mountpoint of mountedOn(this.options.mount.directory)) {
      health.push(
        `${mountpoint} is mounted below it, and the kernel unmounts that when an install begins or is committed`,
      );
    }
    health.push(...this.transactions.problems());
    return health;
  }

  /** SIGTERM: drop what is open and unmount; a mount that is in use stays, with its readers. */
  async #terminate(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    try {
      await this.transactions.abortOpen();
      await this.options.keeper.unmount(false);
    } catch (error) {
      this.#lastError = `asked to end, but: ${describe(error)}`;
      this.options.log(this.#lastError);
      this.#stopping = false;
    }
  }

  /** The connection is over when nobody has its device open any more: this process, and then the keeper. */
  #cutOff(): void {
    const timer = setTimeout(
      () => void this.#stopped('unmounted by force: copies of the mount are cut off'),
      CUT_OFF_MS,
    );
    void this.ended.then(() => clearTimeout(timer));
  }

  async #stopped(reason: string): Promise<void> {
    // Stopping the engine can be told as an end once more.
    if (this.#over) return;
    this.#over = true;
    this.#stopping = true;
    this.options.log(`the session has ended: ${reason}`);
    try {
      await this.transactions.abortOpen();
      for (const lost of await this.transactions.saveKept()) this.options.log(`error: ${lost}`);
      await this.#lowerCheck?.stop();
      await this.engine.stop();
    } catch (error) {
      this.options.log(`error: ${describe(error)}`);
    }
    this.#end(/^unmounted\b/.test(reason) ? 0 : 1);
  }
}
