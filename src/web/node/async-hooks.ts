/** Stands in for node:async_hooks in a browser, where nobody watches stages or counts what is read. */
export class AsyncLocalStorage<T> {
  getStore(): T | undefined {
    return undefined
  }

  run<R>(_store: T, work: () => R): R {
    return work()
  }
}
