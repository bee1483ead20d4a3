/**
 * The answering end of the control socket: accepts, checks who asks and what, answers one line per request.
 *
 * Invariants: a malformed message gets an error and never stops the server; only root and the server's own user are
 * listened to; nothing is read from a peer that has too much unanswered.
 */
import { closeSync, constants, openSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { debugFor } from '../util/debug.js';
import { describe, errorData, SiteswapError } from '../util/errors.js';
import { MAX_CONNECTIONS, MAX_MESSAGE_BYTES } from '../util/limits.js';
import { parseRequest, requestId, type Progress, type Request } from './control-protocol.js';
import { LineReader } from './line-reader.js';

const debug = debugFor('control');

/** How long a stopping server waits for answers that are on their way. */
const DRAIN_MS = 2_000;

export interface ControlServerOptions {
  /** The socket is made in it; the descriptor stays open, so that its path can be longer than sun_path. */
  storePath: string;
  peerUid: (fd: number) => number;
  handle: (request: Request, onEvent: (event: Progress) => void) => Promise<unknown>;
}

export class ControlServer {
  readonly #running = new Set<Promise<void>>();
  readonly #sockets = new Set<Socket>();

  private constructor(
    private readonly options: ControlServerOptions,
    private readonly directory: number,
    private readonly server: Server,
  ) {
    server.maxConnections = MAX_CONNECTIONS;
    server.on('connection', (socket) => this.#accept(socket));
  }

  static async listen(options: ControlServerOptions): Promise<ControlServer> {
    const directory = openSync(options.storePath, constants.O_RDONLY | constants.O_DIRECTORY);
    const path = `/proc/self/fd/${directory}/control.sock`;
    // The store is locked: a socket that is there is a former server's.
    rmSync(path, { force: true });
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    return new ControlServer(options, directory, server);
  }

  /** Takes no more requests; what is being answered is still answered. */
  async close(): Promise<void> {
    this.server.close();
    const late = new Promise<void>((resolve) => setTimeout(resolve, DRAIN_MS).unref());
    await Promise.race([Promise.allSettled(this.#running), late]);
    for (const socket of this.#sockets) socket.end();
    closeSync(this.directory);
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', (error) => debug('connection: %s', error.message));
    const allowed = this.#isAllowed(socket);
    const reader = new LineReader(MAX_MESSAGE_BYTES, (line) => {
      const work = this.#answer(socket, line, allowed);
      this.#running.add(work);
      void work.finally(() => this.#running.delete(work));
    });
    socket.on('data', (chunk) => {
      try {
        reader.push(chunk);
      } catch (error) {
        debug('connection: %s', describe(error));
        socket.destroy();
      }
    });
  }

  #isAllowed(socket: Socket): boolean {
    // Node has no public way to the descriptor of a socket.
    const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
    const uid = this.options.peerUid(fd);
    return uid === 0 || uid === process.geteuid?.();
  }

  async #answer(socket: Socket, line: string, allowed: boolean): Promise<void> {
    const send = (message: object): void => {
      if (socket.writable) socket.write(`${JSON.stringify(message)}\n`);
    };
    let id = 0;
    try {
      if (!allowed) throw new SiteswapError('ACCESS_DENIED', 'only root and the user who mounted may do that');
      const request = understand(line, (known) => (id = known));
      debug('%o', request);
      const result = await this.options.handle(request, (event) => send({ id, event }));
      send({ id, ok: true, result });
    } catch (error) {
      if (!(error instanceof SiteswapError)) debug('%O', error);
      send({ id, ok: false, error: errorData(error) });
    }
  }
}

function understand(line: string, onId: (id: number) => void): Request {
  try {
    const value: unknown = JSON.parse(line);
    onId(requestId(value));
    return parseRequest(value);
  } catch (error) {
    throw new SiteswapError('BAD_REQUEST', `the request is not understood: ${describe(error)}`, undefined, {
      cause: error,
    });
  }
}
