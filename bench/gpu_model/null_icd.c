// A Vulkan driver that wraps RADV's null device so that WebGPU implementations (wgpu, Dawn) open it,
// and that records what each compute pipeline compiled to.
//
// The null device compiles as a real one does, but executes nothing, and it lacks timeline
// semaphores, which wgpu requires. This library supplies semaphores and fences that are always
// signaled, host memory for mappings, and drops submissions; the rest is RADV's. Pipelines are
// created with statistics and representations captured. Those of pipeline n are written to
// $RADV_CAPTURE/n.txt. $RADV_LIBRARY is the path of RADV.
#define VK_NO_PROTOTYPES
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <vulkan/vk_icd.h>
#include <vulkan/vulkan.h>

#define EXPORT __attribute__((visibility("default")))

static PFN_vkGetInstanceProcAddr real_instance_proc;
static PFN_vkGetDeviceProcAddr real_device_proc;
static PFN_vkCreateDevice real_create_device;
static PFN_vkCreateComputePipelines real_create_pipelines;
static PFN_vkGetPipelineExecutablePropertiesKHR get_executables;
static PFN_vkGetPipelineExecutableStatisticsKHR get_statistics;
static PFN_vkGetPipelineExecutableInternalRepresentationsKHR get_representations;

static void load(void) {
  if (real_instance_proc) return;
  const char *path = getenv("RADV_LIBRARY");
  void *library = dlopen(path ? path : "libvulkan_radeon.so", RTLD_NOW | RTLD_LOCAL);
  if (!library) { fprintf(stderr, "null_icd: %s\n", dlerror()); abort(); }
  real_instance_proc = (PFN_vkGetInstanceProcAddr)dlsym(library, "vk_icdGetInstanceProcAddr");
}

// Semaphores: a timeline has the value that was last signaled; waits return at once.

typedef struct { uint64_t value; } Timeline;

static VkResult create_semaphore(VkDevice device, const VkSemaphoreCreateInfo *info, const VkAllocationCallbacks *a, VkSemaphore *out) {
  Timeline *timeline = calloc(1, sizeof *timeline);
  *out = (VkSemaphore)(uintptr_t)timeline;
  return VK_SUCCESS;
}
static void destroy_semaphore(VkDevice device, VkSemaphore semaphore, const VkAllocationCallbacks *a) { free((void *)(uintptr_t)semaphore); }
static VkResult semaphore_value(VkDevice device, VkSemaphore semaphore, uint64_t *value) {
  *value = ((Timeline *)(uintptr_t)semaphore)->value;
  return VK_SUCCESS;
}
static VkResult wait_semaphores(VkDevice device, const VkSemaphoreWaitInfo *info, uint64_t timeout) { return VK_SUCCESS; }
static void signal(VkSemaphore semaphore, uint64_t value) { if (semaphore && value) ((Timeline *)(uintptr_t)semaphore)->value = value; }
static VkResult signal_semaphore(VkDevice device, const VkSemaphoreSignalInfo *info) {
  signal(info->semaphore, info->value);
  return VK_SUCCESS;
}
static VkResult queue_submit(VkQueue queue, uint32_t count, const VkSubmitInfo *submits, VkFence fence) {
  for (uint32_t i = 0; i < count; i++) {
    for (const VkBaseInStructure *next = submits[i].pNext; next; next = next->pNext) {
      if (next->sType != VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO) continue;
      const VkTimelineSemaphoreSubmitInfo *values = (const void *)next;
      for (uint32_t j = 0; j < submits[i].signalSemaphoreCount && j < values->signalSemaphoreValueCount; j++)
        signal(submits[i].pSignalSemaphores[j], values->pSignalSemaphoreValues[j]);
    }
  }
  return VK_SUCCESS;
}
static VkResult queue_submit2(VkQueue queue, uint32_t count, const VkSubmitInfo2 *submits, VkFence fence) {
  for (uint32_t i = 0; i < count; i++)
    for (uint32_t j = 0; j < submits[i].signalSemaphoreInfoCount; j++)
      signal(submits[i].pSignalSemaphoreInfos[j].semaphore, submits[i].pSignalSemaphoreInfos[j].value);
  return VK_SUCCESS;
}

// Memory: the null device reports none. Mapped memory exists and is zero; other memory is only a
// size. Nothing is bound to buffers, as nothing runs.

typedef struct { size_t size; void *mapped; } Memory;
static const VkPhysicalDeviceMemoryProperties memory = {
  .memoryTypeCount = 3,
  .memoryTypes = {{VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0},
                  {VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT, 1},
                  {VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT, 1}},
  .memoryHeapCount = 2,
  .memoryHeaps = {{1ull << 36, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT}, {1ull << 36, 0}},
};
static void memory_properties(VkPhysicalDevice physical, VkPhysicalDeviceMemoryProperties *out) { *out = memory; }
static void memory_properties2(VkPhysicalDevice physical, VkPhysicalDeviceMemoryProperties2 *out) {
  out->memoryProperties = memory;
  for (VkBaseOutStructure *next = out->pNext; next; next = next->pNext) {
    if (next->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT) continue;
    VkPhysicalDeviceMemoryBudgetPropertiesEXT *budget = (void *)next;
    for (uint32_t i = 0; i < memory.memoryHeapCount; i++) budget->heapBudget[i] = memory.memoryHeaps[i].size, budget->heapUsage[i] = 0;
  }
}
static PFN_vkGetBufferMemoryRequirements real_requirements;
static PFN_vkGetBufferMemoryRequirements2 real_requirements2;
static void requirements(VkDevice device, VkBuffer buffer, VkMemoryRequirements *out) {
  real_requirements(device, buffer, out);
  out->memoryTypeBits = 7;
}
static void requirements2(VkDevice device, const VkBufferMemoryRequirementsInfo2 *info, VkMemoryRequirements2 *out) {
  real_requirements2(device, info, out);
  out->memoryRequirements.memoryTypeBits = 7;
}
static VkResult allocate_memory(VkDevice device, const VkMemoryAllocateInfo *info, const VkAllocationCallbacks *a, VkDeviceMemory *out) {
  Memory *made = calloc(1, sizeof *made);
  made->size = info->allocationSize;
  *out = (VkDeviceMemory)(uintptr_t)made;
  return VK_SUCCESS;
}
static void unmap_memory(VkDevice device, VkDeviceMemory memory) {}
static void free_memory(VkDevice device, VkDeviceMemory handle, const VkAllocationCallbacks *a) {
  Memory *freed = (Memory *)(uintptr_t)handle;
  if (freed && freed->mapped) munmap(freed->mapped, freed->size);
  free(freed);
}
static VkResult map_memory(VkDevice device, VkDeviceMemory handle, VkDeviceSize offset, VkDeviceSize size, VkMemoryMapFlags flags, void **out) {
  Memory *mapped = (Memory *)(uintptr_t)handle;
  if (!mapped->mapped) {
    void *at = mmap(NULL, mapped->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return VK_ERROR_MEMORY_MAP_FAILED;
    mapped->mapped = at;
  }
  *out = (char *)mapped->mapped + offset;
  return VK_SUCCESS;
}
// Commands are dropped. The loader writes its dispatch table into a command buffer's first word.
static VkResult allocate_commands(VkDevice device, const VkCommandBufferAllocateInfo *info, VkCommandBuffer *out) {
  for (uint32_t i = 0; i < info->commandBufferCount; i++) {
    VK_LOADER_DATA *made = calloc(1, 64);
    set_loader_magic_value(made);
    out[i] = (VkCommandBuffer)made;
  }
  return VK_SUCCESS;
}

static VkResult create_fence(VkDevice device, const VkFenceCreateInfo *info, const VkAllocationCallbacks *a, VkFence *out) {
  *out = (VkFence)(uintptr_t)1; // every fence is always signaled
  return VK_SUCCESS;
}

static VkResult succeed(void) { return VK_SUCCESS; } // called with any arguments
static void ignore(void) {}

// Pipelines

static void write_value(FILE *to, const VkPipelineExecutableStatisticKHR *s) {
  fprintf(to, "%s\t", s->name);
  switch (s->format) {
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR: fprintf(to, "%u\n", s->value.b32); break;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR: fprintf(to, "%lld\n", (long long)s->value.i64); break;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR: fprintf(to, "%llu\n", (unsigned long long)s->value.u64); break;
    default: fprintf(to, "%g\n", s->value.f64);
  }
}

static void write_pipeline(VkDevice device, VkPipeline pipeline) {
  static int number = 0;
  const char *folder = getenv("RADV_CAPTURE");
  if (!folder || !get_executables) return;
  char path[4096];
  snprintf(path, sizeof path, "%s/%d.txt", folder, number++);
  FILE *to = fopen(path, "w");
  if (!to) { perror(path); return; }
  VkPipelineInfoKHR info = {VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, NULL, pipeline};
  VkPipelineExecutableInfoKHR executable = {VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, NULL, pipeline, 0};
  VkPipelineExecutablePropertiesKHR properties = {VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
  uint32_t one = 1;
  get_executables(device, &info, &one, &properties);
  fprintf(to, "Subgroup size\t%u\n", properties.subgroupSize);
  uint32_t count = 0;
  get_statistics(device, &executable, &count, NULL);
  VkPipelineExecutableStatisticKHR *statistics = calloc(count, sizeof *statistics);
  for (uint32_t i = 0; i < count; i++) statistics[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
  get_statistics(device, &executable, &count, statistics);
  for (uint32_t i = 0; i < count; i++) write_value(to, &statistics[i]);
  free(statistics);
  get_representations(device, &executable, &count, NULL);
  VkPipelineExecutableInternalRepresentationKHR *texts = calloc(count, sizeof *texts);
  for (uint32_t i = 0; i < count; i++) texts[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR;
  get_representations(device, &executable, &count, texts);
  for (uint32_t i = 0; i < count; i++) texts[i].pData = calloc(1, texts[i].dataSize + 1);
  get_representations(device, &executable, &count, texts);
  for (uint32_t i = 0; i < count; i++) {
    fprintf(to, "=== %s\n%s\n", texts[i].name, (char *)texts[i].pData);
    free(texts[i].pData);
  }
  free(texts);
  fclose(to);
}

static VkResult create_pipelines(VkDevice device, VkPipelineCache cache, uint32_t count, const VkComputePipelineCreateInfo *infos,
                                 const VkAllocationCallbacks *a, VkPipeline *out) {
  for (uint32_t i = 0; i < count; i++) {
    VkComputePipelineCreateInfo info = infos[i];
    info.flags |= VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR | VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR;
    VkResult result = real_create_pipelines(device, VK_NULL_HANDLE, 1, &info, a, &out[i]);
    if (result != VK_SUCCESS) return result;
    write_pipeline(device, out[i]);
  }
  return VK_SUCCESS;
}

static PFN_vkVoidFunction device_proc(VkDevice device, const char *name);

static VkResult create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info, const VkAllocationCallbacks *a, VkDevice *out) {
  const char *names[info->enabledExtensionCount + 1];
  for (uint32_t i = 0; i < info->enabledExtensionCount; i++) names[i] = info->ppEnabledExtensionNames[i];
  names[info->enabledExtensionCount] = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
  VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR feature = {
    VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR, (void *)info->pNext, VK_TRUE};
  VkDeviceCreateInfo more = *info;
  more.pNext = &feature;
  more.enabledExtensionCount++;
  more.ppEnabledExtensionNames = names;
  VkResult result = real_create_device(physical, &more, a, out);
  if (result != VK_SUCCESS) return result;
  get_executables = (void *)real_device_proc(*out, "vkGetPipelineExecutablePropertiesKHR");
  get_statistics = (void *)real_device_proc(*out, "vkGetPipelineExecutableStatisticsKHR");
  get_representations = (void *)real_device_proc(*out, "vkGetPipelineExecutableInternalRepresentationsKHR");
  real_requirements = (void *)real_device_proc(*out, "vkGetBufferMemoryRequirements");
  real_requirements2 = (void *)real_device_proc(*out, "vkGetBufferMemoryRequirements2");
  real_create_pipelines = (void *)real_device_proc(*out, "vkCreateComputePipelines");
  return VK_SUCCESS;
}

static PFN_vkVoidFunction own(const char *name) {
  static const struct { const char *name; void *call; } calls[] = {
    {"vkCreateSemaphore", create_semaphore}, {"vkDestroySemaphore", destroy_semaphore},
    {"vkGetSemaphoreCounterValue", semaphore_value}, {"vkGetSemaphoreCounterValueKHR", semaphore_value},
    {"vkWaitSemaphores", wait_semaphores}, {"vkWaitSemaphoresKHR", wait_semaphores},
    {"vkSignalSemaphore", signal_semaphore}, {"vkSignalSemaphoreKHR", signal_semaphore},
    {"vkQueueSubmit", queue_submit}, {"vkQueueSubmit2", queue_submit2}, {"vkQueueSubmit2KHR", queue_submit2},
    {"vkCreateFence", create_fence}, {"vkDestroyFence", ignore}, {"vkResetFences", succeed}, {"vkWaitForFences", succeed}, {"vkGetFenceStatus", succeed}, {"vkQueueWaitIdle", succeed}, {"vkDeviceWaitIdle", succeed},
    {"vkGetPhysicalDeviceMemoryProperties", memory_properties}, {"vkGetPhysicalDeviceMemoryProperties2", memory_properties2},
    {"vkGetPhysicalDeviceMemoryProperties2KHR", memory_properties2}, {"vkGetBufferMemoryRequirements", requirements},
    {"vkGetBufferMemoryRequirements2", requirements2}, {"vkGetBufferMemoryRequirements2KHR", requirements2},
    {"vkAllocateMemory", allocate_memory}, {"vkFreeMemory", free_memory}, {"vkMapMemory", map_memory}, {"vkUnmapMemory", unmap_memory},
    {"vkBindBufferMemory", succeed}, {"vkBindBufferMemory2", succeed}, {"vkBindBufferMemory2KHR", succeed},
    {"vkAllocateCommandBuffers", allocate_commands}, {"vkFreeCommandBuffers", ignore}, {"vkBeginCommandBuffer", succeed},
    {"vkEndCommandBuffer", succeed}, {"vkResetCommandBuffer", succeed},
    {"vkResetCommandPool", succeed}, {"vkTrimCommandPool", ignore},
    {"vkUpdateDescriptorSets", ignore}, {"vkResetQueryPool", ignore},  {"vkGetQueryPoolResults", succeed},
    {"vkCreateComputePipelines", create_pipelines}, {"vkCreateDevice", create_device}, {"vkGetDeviceProcAddr", device_proc},
  };
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
    if (strcmp(calls[i].name, name) == 0) return (PFN_vkVoidFunction)calls[i].call;
  return strncmp(name, "vkCmd", 5) == 0 ? (PFN_vkVoidFunction)ignore : NULL;
}

static PFN_vkVoidFunction device_proc(VkDevice device, const char *name) {
  PFN_vkVoidFunction real = real_device_proc(device, name);
  PFN_vkVoidFunction mine = real ? own(name) : NULL;
  return mine ? mine : real;
}

EXPORT PFN_vkVoidFunction vk_icdGetInstanceProcAddr(VkInstance instance, const char *name) {
  load();
  PFN_vkVoidFunction real = real_instance_proc(instance, name);
  if (!real) return NULL;
  if (strcmp(name, "vkGetDeviceProcAddr") == 0) real_device_proc = (PFN_vkGetDeviceProcAddr)real;
  if (strcmp(name, "vkCreateDevice") == 0) {
    real_create_device = (PFN_vkCreateDevice)real;
    if (!real_device_proc) real_device_proc = (PFN_vkGetDeviceProcAddr)real_instance_proc(instance, "vkGetDeviceProcAddr");
  }
  PFN_vkVoidFunction mine = own(name);
  return mine ? mine : real;
}

EXPORT PFN_vkVoidFunction vk_icdGetPhysicalDeviceProcAddr(VkInstance instance, const char *name) {
  load();
  return real_instance_proc(instance, name);
}

EXPORT VkResult vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
  if (*version > 5) *version = 5;
  return VK_SUCCESS;
}
