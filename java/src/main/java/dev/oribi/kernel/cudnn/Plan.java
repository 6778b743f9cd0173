package dev.oribi.kernel.cudnn;

import static org.bytedeco.cuda.global.cudnn.*;

import java.util.List;
import org.bytedeco.cuda.cudnn.cudnnBackendDescriptor_t;
import org.bytedeco.cuda.cudnn.cudnnContext;

/**
 * A graph that cuDNN has found a kernel for. Building takes 0.5 to 1.5 s when the kernel must be compiled, else some 50 ms;
 * an execution takes tens of microseconds of the host's time and no memory of the device but what it is given.
 */
final class Plan implements AutoCloseable {
  private final Graph graph;
  private final long[] uids;
  private final Descriptors descriptors = new Descriptors();
  private final cudnnContext handle;
  private final cudnnBackendDescriptor_t plan;
  private final long workspace;

  /** Takes over the graph: it is closed with the plan, or here when there is no kernel for it. */
  Plan(Graph graph, cudnnContext handle) {
    this.graph = graph;
    this.uids = graph.uids();
    this.handle = handle;
    try {
      plan = choose();
      workspace = Descriptors.getLong(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, "size of workspace");
    } catch (CudnnException e) {
      close();
      throw e;
    }
  }

  /** The first configuration that works, in the order in which cuDNN expects them to be fast. */
  private cudnnBackendDescriptor_t choose() {
    cudnnBackendDescriptor_t operations =
        descriptors
            .make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "operation graph")
            .descriptors(CUDNN_ATTR_OPERATIONGRAPH_OPS, graph.operations())
            .handle(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, handle)
            .finish();
    StringBuilder refusals = new StringBuilder();
    for (int mode : new int[] {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
      cudnnBackendDescriptor_t heuristic =
          descriptors
              .make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "heuristic")
              .descriptors(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, operations)
              .choice(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode)
              .tryFinish();
      if (heuristic == null) {
        refusals.append(' ').append(CudnnException.lastError());
        continue;
      }
      for (cudnnBackendDescriptor_t configuration : configurations(heuristic)) {
        cudnnBackendDescriptor_t found =
            descriptors
                .make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "execution plan")
                .descriptors(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration)
                .handle(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, handle)
                .tryFinish();
        if (found != null) {
          return found;
        }
        refusals.append(' ').append(CudnnException.lastError());
      }
    }
    throw new CudnnException("cuDNN has no kernel for this attention:" + refusals);
  }

  private List<cudnnBackendDescriptor_t> configurations(cudnnBackendDescriptor_t heuristic) {
    return descriptors.get(
        heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "configurations");
  }

  /** Bytes that an execution needs besides the bound tensors. */
  long workspace() {
    return workspace;
  }

  /**
   * Issues the graph on the handle's stream.
   *
   * @param addresses by slot, as {@link Graph#addresses} has them
   */
  void execute(long[] addresses, long workspaceAddress) {
    try (Descriptors call = new Descriptors()) {
      cudnnBackendDescriptor_t pack =
          call.make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "variant pack")
              .longs(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, uids)
              .addresses(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, addresses)
              .addresses(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, workspaceAddress)
              .finish();
      CudnnException.check(cudnnBackendExecute(handle, plan, pack), "attention");
    }
  }

  @Override
  public void close() {
    descriptors.close();
    graph.close();
  }
}
