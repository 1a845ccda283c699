/** An MPI library of one process that has the standard's binary interface; handles of another are errors. */
#include <string.h>

#define WORLD ((void *)0x101)
#define SUM ((void *)0x21)
enum { ERR_TYPE = 3, ERR_COMM = 5, ERR_OP = 10 };

static int bytes_of(void *type) { return type == (void *)0x210 ? 4 : type == (void *)0x214 ? 8 : 0; }

static int copied(const void *from, int count, void *type, void *to, void *comm) {
  if (comm != WORLD) return ERR_COMM;
  if (!bytes_of(type)) return ERR_TYPE;
  memcpy(to, from, (size_t)count * bytes_of(type));
  return 0;
}

static int number(void *comm, int *into, int value) {
  *into = value;
  return comm == WORLD ? 0 : ERR_COMM;
}

int MPI_Abi_get_version(int *major, int *minor) {
  *major = 1;
  *minor = 0;
  return 0;
}
int MPI_Get_library_version(char *text, int *length) {
  *length = strlen(strcpy(text, "Open MPI of a test"));
  return 0;
}
int MPI_Init_thread(int *count, char ***words, int wanted, int *provided) {
  *provided = wanted;
  return 0;
}
int MPI_Comm_rank(void *comm, int *rank) { return number(comm, rank, 0); }
int MPI_Comm_size(void *comm, int *size) { return number(comm, size, 1); }
int MPI_Alltoall(const void *from, int n, void *type, void *to, int m, void *other, void *comm) {
  return n != m || type != other ? ERR_TYPE : copied(from, n, type, to, comm);
}
int MPI_Allgather(const void *from, int n, void *type, void *to, int m, void *other, void *comm) {
  return MPI_Alltoall(from, n, type, to, m, other, comm);
}
int MPI_Allreduce(const void *from, void *to, int n, void *type, void *op, void *comm) {
  return op != SUM ? ERR_OP : copied(from, n, type, to, comm);
}
int MPI_Abort(void *comm, int code) { return 0; }
int MPI_Finalize(void) { return 0; }
