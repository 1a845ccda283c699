/*
 * The entries of onnxruntime's C API that are used here, by their place in its table (onnxruntime_c_api.h, struct OrtApi).
 * The table only ever grows at its end, so a place holds for every later version; OrtApiBase gives the table of a version.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/** KernelContext_ParallelFor is the newest entry: 1.17. */
#define ORT_TABLE_VERSION 18

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtShapeInferContext OrtShapeInferContext;
typedef struct OrtCustomOp OrtCustomOp;

typedef void *const *OrtApi;

typedef struct {
  OrtApi (*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} OrtApiBase;

extern OrtApi ort;

#define ENTRY(place, result, ...) ((result(*)(__VA_ARGS__))ort[place])

#define CreateStatus ENTRY(0, OrtStatus *, int, const char *)
#define GetErrorMessage ENTRY(2, const char *, const OrtStatus *)
#define CreateEnv ENTRY(3, OrtStatus *, int, const char *, OrtEnv **)
#define CreateSessionFromArray \
  ENTRY(8, OrtStatus *, const OrtEnv *, const void *, size_t, const OrtSessionOptions *, OrtSession **)
#define Run                                                                                                        \
  ENTRY(9, OrtStatus *, OrtSession *, const OrtRunOptions *, const char *const *, const OrtValue *const *, size_t, \
        const char *const *, size_t, OrtValue **)
#define CreateSessionOptions ENTRY(10, OrtStatus *, OrtSessionOptions **)
#define SetOptimizedModelFilePath ENTRY(11, OrtStatus *, OrtSessionOptions *, const char *)
#define EnableProfiling ENTRY(14, OrtStatus *, OrtSessionOptions *, const char *)
#define DisableMemPattern ENTRY(17, OrtStatus *, OrtSessionOptions *)
#define SetSessionLogSeverityLevel ENTRY(22, OrtStatus *, OrtSessionOptions *, int)
#define SetSessionGraphOptimizationLevel ENTRY(23, OrtStatus *, OrtSessionOptions *, int)
#define SetIntraOpNumThreads ENTRY(24, OrtStatus *, OrtSessionOptions *, int)
#define CreateCustomOpDomain ENTRY(26, OrtStatus *, const char *, OrtCustomOpDomain **)
#define CustomOpDomain_Add ENTRY(27, OrtStatus *, OrtCustomOpDomain *, const OrtCustomOp *)
#define AddCustomOpDomain ENTRY(28, OrtStatus *, OrtSessionOptions *, OrtCustomOpDomain *)
#define CreateRunOptions ENTRY(39, OrtStatus *, OrtRunOptions **)
#define RunOptionsSetRunLogSeverityLevel ENTRY(41, OrtStatus *, OrtRunOptions *, int)
#define CreateTensorWithDataAsOrtValue                                                                              \
  ENTRY(49, OrtStatus *, const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t, int, OrtValue **)
#define GetTensorMutableData ENTRY(51, OrtStatus *, OrtValue *, void **)
#define GetTensorElementType ENTRY(60, OrtStatus *, const OrtTensorTypeAndShapeInfo *, int *)
#define GetDimensionsCount ENTRY(61, OrtStatus *, const OrtTensorTypeAndShapeInfo *, size_t *)
#define GetDimensions ENTRY(62, OrtStatus *, const OrtTensorTypeAndShapeInfo *, int64_t *, size_t)
#define GetTensorShapeElementCount ENTRY(64, OrtStatus *, const OrtTensorTypeAndShapeInfo *, size_t *)
#define GetTensorTypeAndShape ENTRY(65, OrtStatus *, const OrtValue *, OrtTensorTypeAndShapeInfo **)
#define CreateCpuMemoryInfo ENTRY(69, OrtStatus *, int, int, OrtMemoryInfo **)
#define AllocatorFree ENTRY(76, OrtStatus *, OrtAllocator *, void *)
#define GetAllocatorWithDefaultOptions ENTRY(78, OrtStatus *, OrtAllocator **)
#define KernelInfoGetAttribute_float ENTRY(85, OrtStatus *, const OrtKernelInfo *, const char *, float *)
#define KernelInfoGetAttribute_int64 ENTRY(86, OrtStatus *, const OrtKernelInfo *, const char *, int64_t *)
#define KernelInfoGetAttributeArray_int64 ENTRY(163, OrtStatus *, const OrtKernelInfo *, const char *, int64_t *, size_t *)
#define KernelContext_GetInput ENTRY(90, OrtStatus *, const OrtKernelContext *, size_t, const OrtValue **)
#define KernelContext_GetOutput \
  ENTRY(91, OrtStatus *, OrtKernelContext *, size_t, const int64_t *, size_t, OrtValue **)
#define ReleaseStatus ENTRY(93, void, OrtStatus *)
#define ReleaseSession ENTRY(95, void, OrtSession *)
#define ReleaseValue ENTRY(96, void, OrtValue *)
#define ReleaseTensorTypeAndShapeInfo ENTRY(99, void, OrtTensorTypeAndShapeInfo *)
#define ReleaseSessionOptions ENTRY(100, void, OrtSessionOptions *)
#define SessionEndProfiling ENTRY(110, OrtStatus *, OrtSession *, OrtAllocator *, char **)
#define AddSessionConfigEntry ENTRY(130, OrtStatus *, OrtSessionOptions *, const char *, const char *)
#define ShapeInferContext_GetInputTypeShape \
  ENTRY(268, OrtStatus *, const OrtShapeInferContext *, size_t, OrtTensorTypeAndShapeInfo **)
#define ShapeInferContext_SetOutputTypeShape \
  ENTRY(270, OrtStatus *, const OrtShapeInferContext *, size_t, const OrtTensorTypeAndShapeInfo *)
#define KernelContext_ParallelFor \
  ENTRY(274, OrtStatus *, const OrtKernelContext *, void (*)(void *, size_t), size_t, size_t, void *)

#define FLOAT32 1

struct OrtCustomOp {
  uint32_t version;
  void *(*CreateKernel)(const OrtCustomOp *, OrtApi, const OrtKernelInfo *);
  const char *(*GetName)(const OrtCustomOp *);
  const char *(*GetExecutionProviderType)(const OrtCustomOp *);
  int (*GetInputType)(const OrtCustomOp *, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp *);
  int (*GetOutputType)(const OrtCustomOp *, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp *);
  void (*KernelCompute)(void *, OrtKernelContext *);
  void (*KernelDestroy)(void *);
  int (*GetInputCharacteristic)(const OrtCustomOp *, size_t);
  int (*GetOutputCharacteristic)(const OrtCustomOp *, size_t);
  int (*GetInputMemoryType)(const OrtCustomOp *, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp *);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp *);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp *);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *);
  OrtStatus *(*CreateKernelV2)(const OrtCustomOp *, OrtApi, const OrtKernelInfo *, void **);
  OrtStatus *(*KernelComputeV2)(void *, OrtKernelContext *);
  OrtStatus *(*InferOutputShapeFn)(const OrtCustomOp *, OrtShapeInferContext *);
  int (*GetStartVersion)(const OrtCustomOp *);
  int (*GetEndVersion)(const OrtCustomOp *);
  size_t (*GetMayInplace)(int **, int **);
  void (*ReleaseMayInplace)(int *, int *);
  size_t (*GetAliasMap)(int **, int **);
  void (*ReleaseAliasMap)(int *, int *);
};
