package dev.oribi.device;

import static org.bytedeco.cuda.global.cudart.cudaGetLastError;
import static org.bytedeco.cuda.global.cudart.cudaGraphDestroy;
import static org.bytedeco.cuda.global.cudart.cudaGraphExecDestroy;
import static org.bytedeco.cuda.global.cudart.cudaGraphInstantiate;
import static org.bytedeco.cuda.global.cudart.cudaGraphLaunch;
import static org.bytedeco.cuda.global.cudart.cudaGraphUpload;
import static org.bytedeco.cuda.global.cudart.cudaSetDevice;
import static org.bytedeco.cuda.global.cudart.cudaStreamBeginCapture;
import static org.bytedeco.cuda.global.cudart.cudaStreamCaptureModeThreadLocal;
import static org.bytedeco.cuda.global.cudart.cudaStreamEndCapture;

import org.bytedeco.cuda.cudart.CUgraphExec_st;
import org.bytedeco.cuda.cudart.CUgraph_st;
import org.bytedeco.cuda.cudart.CUstream_st;

/**
 * Records by capturing the kernels' stream into a CUDA graph. The capture is local to the thread: in the global mode, a call
 * of any other thread of the JVM that frees memory would break it.
 */
final class CudaRecorder implements Recorder {
  private final int index;
  private final CUstream_st stream;

  CudaRecorder(int index, CUstream_st stream) {
    this.index = index;
    this.stream = stream;
  }

  @Override
  public Recording record(Runnable work) {
    Cuda.check(cudaSetDevice(index), "selecting CUDA device " + index);
    Cuda.check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "beginning a capture");
    CUgraph_st graph = new CUgraph_st();
    boolean whole = false;
    int status;
    try {
      work.run();
      whole = true;
    } finally {
      status = cudaStreamEndCapture(stream, graph);
      if (!whole) {
        cudaGetLastError(); // The work's own error is the one to tell.
        destroy(graph);
      }
    }
    try {
      Cuda.check(status, "ending a capture");
      CUgraphExec_st exec = new CUgraphExec_st();
      Cuda.check(cudaGraphInstantiate(exec, graph), "making a captured run ready");
      Cuda.check(cudaGraphUpload(exec, stream), "uploading a captured run");
      return new Graph(exec);
    } finally {
      destroy(graph);
    }
  }

  private static void destroy(CUgraph_st graph) {
    if (!graph.isNull()) {
      cudaGraphDestroy(graph);
      graph.setNull();
    }
  }

  private final class Graph implements Recording {
    private CUgraphExec_st exec;

    Graph(CUgraphExec_st exec) {
      this.exec = exec;
    }

    @Override
    public void replay() {
      Cuda.check(cudaSetDevice(index), "selecting CUDA device " + index);
      Cuda.check(cudaGraphLaunch(exec, stream), "launching a captured run");
    }

    @Override
    public void close() {
      if (exec != null) {
        cudaGraphExecDestroy(exec);
        exec = null;
      }
    }
  }
}
