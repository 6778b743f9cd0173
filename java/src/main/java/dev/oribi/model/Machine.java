package dev.oribi.model;

import dev.oribi.OribiException;
import dev.oribi.device.CpuDevice;
import dev.oribi.device.CudaDevice;
import dev.oribi.device.CudaSetup;
import dev.oribi.device.Device;
import dev.oribi.device.Lanes;
import dev.oribi.kernel.Attention;
import dev.oribi.kernel.AttentionChoice;
import dev.oribi.kernel.AttentionLibrary;
import dev.oribi.kernel.CublasLtGemm;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Gemm;
import dev.oribi.kernel.GemmTuner;
import dev.oribi.kernel.KernelAttention;
import dev.oribi.kernel.Kernels;
import dev.oribi.kernel.OpenBlasGemm;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.model.family.Families;
import dev.oribi.program.Emit;
import dev.oribi.program.Executor;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A device with its kernels and its libraries of products and attention: what programs are planned for and run on.
 *
 * @param ahead kernels of a stream beside the main one; the same as {@code kernels} where there is none
 * @param noGpu why "auto" took the CPU; empty where it was asked for
 */
public record Machine(
    Device device, Kernels kernels, Gemm gemm, Attention attention, Kernels ahead, Lanes lanes, Options options, String noGpu)
    implements AutoCloseable {
  /** The names that {@link #open} knows, for help texts. */
  public static final String DEVICES = "auto, cpu, cuda or cuda:N";

  private static final Pattern CUDA = Pattern.compile("cuda(?::(\\d{1,3}))?");

  /** Compute capability times ten from which on a card computes in bfloat16. */
  private static final int BF16_ARCHITECTURE = 80;

  /**
   * How programs are run.
   *
   * @param debugSync wait after every op and name the one at fault; slow
   * @param cudaGraph replay programs on a GPU, in training with batches that are rounded up ({@link dev.oribi.program.RowBuckets})
   * @param tuneProducts time cublasLt's algorithms for each planned product, before memory is taken
   * @param attention which library computes attention on a GPU
   * @param deterministic the same seed gives the same bits on the same card: only libraries that do
   */
  public record Options(
      boolean debugSync, boolean cudaGraph, boolean tuneProducts, AttentionLibrary attention, boolean deterministic) {
    private static final String DEBUG_SYNC = "ORIBI_DEBUG_SYNC";

    /** The defaults. */
    public static final Options DEFAULT = new Options(false, true, false, AttentionLibrary.AUTO, false);

    /**
     * The environment variable ORIBI_DEBUG_SYNC=1 sets {@code debugSync} whatever is asked.
     *
     * @throws OribiException if algorithms chosen by the clock are to give the same bits
     */
    public Options {
      if (tuneProducts && deterministic) {
        throw new OribiException("--tune-products and --deterministic exclude each other: the fastest algorithm of one run"
            + " may not be that of the next, and another one rounds otherwise");
      }
      debugSync |= "1".equals(System.getenv(DEBUG_SYNC));
    }

    public Options withDebugSync(boolean on) {
      return new Options(on, cudaGraph, tuneProducts, attention, deterministic);
    }

    public Options withCudaGraph(boolean on) {
      return new Options(debugSync, on, tuneProducts, attention, deterministic);
    }

    public Options withTuneProducts(boolean on) {
      return new Options(debugSync, cudaGraph, on, attention, deterministic);
    }

    public Options withAttention(AttentionLibrary library) {
      return new Options(debugSync, cudaGraph, tuneProducts, library, deterministic);
    }

    public Options withDeterministic(boolean on) {
      return new Options(debugSync, cudaGraph, tuneProducts, attention, on);
    }
  }

  /** With the kernels' own attention. */
  public Machine(Device device, Kernels kernels, Gemm gemm) {
    this(device, kernels, gemm, new KernelAttention(kernels), kernels, Lanes.NONE, Options.DEFAULT, "");
  }

  /**
   * The CPU.
   *
   * @param threads 0 for all the cores there are
   */
  public static Machine cpu(int threads) {
    return cpu(threads, Options.DEFAULT, "");
  }

  private static Machine cpu(int threads, Options options, String noGpu) {
    Kernels kernels = Kernels.cpu(threads);
    return new Machine(
        new CpuDevice(), kernels, new OpenBlasGemm(kernels), new KernelAttention(kernels), kernels, Lanes.NONE, options, noGpu);
  }

  /**
   * A device by its name.
   *
   * @param name "cpu", "cuda", "cuda:1", or "auto": the first GPU if there is one that works, else the CPU
   * @param threads of the CPU; 0 for all the cores there are
   * @throws OribiException if a GPU is asked for and there is none: the CPU never takes its place unasked
   */
  public static Machine open(String name, int threads, Options options) {
    Matcher cuda = CUDA.matcher(name);
    if (name.equals("cpu")) {
      return cpu(threads, options, "");
    }
    if (cuda.matches()) {
      int index = cuda.group(1) == null ? 0 : Integer.parseInt(cuda.group(1));
      return cuda(index, findCard(index), options);
    }
    if (!name.equals("auto")) {
      throw new OribiException("--device " + name + ": there is " + DEVICES);
    }
    Kernels found;
    try {
      found = findCard(0);
    } catch (OribiException e) {
      return cpu(threads, options, e.getMessage());
    }
    return cuda(0, found, options); // A card whose libraries are missing is an error here too.
  }

  public static Machine open(String name, int threads) {
    return open(name, threads, Options.DEFAULT);
  }

  private static Kernels findCard(int index) {
    Kernels.version(); // A native library of ours that cannot be loaded is another matter than a card that is not there.
    try {
      return Kernels.cuda(index);
    } catch (OribiException e) {
      throw new OribiException(CudaSetup.noDevice(e.getMessage()), e);
    }
  }

  private static Machine cuda(int index, Kernels kernels, Options options) {
    Device device = null;
    Kernels ahead = null;
    try {
      device = new CudaDevice(index, kernels.deviceName(), kernels.stream(), kernels::synchronize);
      ahead = Kernels.cuda(index);
      Attention attention = new AttentionChoice(kernels, options.attention, options.deterministic);
      return new Machine(
          device, kernels, new CublasLtGemm(kernels), attention, ahead, device.lanes(ahead.stream()), options, "");
    } catch (RuntimeException e) {
      if (ahead != null) {
        ahead.close();
      }
      if (device != null) {
        device.close();
      }
      kernels.close();
      throw e;
    }
  }

  /**
   * Where the options ask for it and the device has a choice: times the products of all programs planned so far and keeps
   * the fastest algorithm of each. To be called before a plan's memory is taken.
   */
  public List<GemmTuner.Result> tuneProducts() {
    if (options.tuneProducts && gemm instanceof CublasLtGemm library) {
      return new GemmTuner(device, kernels, library).tunePlanned();
    }
    return List.of();
  }

  /** @throws OribiException if there are no products in FP8 here */
  public void checkFp8() {
    if (!gemm.noFp8().isEmpty()) {
      throw new OribiException("--fp8: " + gemm.noFp8() + "; leave the option out, or take a card of that kind: H100, H200, GH200");
    }
  }

  public boolean isCuda() {
    return device.name().equals("cuda");
  }

  public Emit.Library library() {
    return new Emit.Library(kernels, gemm, attention, ahead, lanes);
  }

  /** What runs programs here; whoever asked for it closes it. */
  public Executor executor() {
    return new Executor(options.cudaGraph ? device.recorder() : null, options.debugSync);
  }

  /**
   * How activations and frozen weights are stored where the user does not say: fp32 on the CPU; on a GPU in 16 bits where
   * the model's own are, as bfloat16 if the card has it; on a card without it in fp32 if float16 is too small for the family.
   */
  public DType defaultType(ModelConfig config) {
    return isCuda() ? defaultType(config, kernels.architecture()) : DType.F32;
  }

  /** The same of a card of this compute capability, such as 75. */
  static DType defaultType(ModelConfig config, int architecture) {
    boolean half = "bfloat16".equals(config.dtype()) || "float16".equals(config.dtype());
    DType type = halfType(architecture);
    boolean fits = type == DType.BF16 || Families.of(config.modelType()).fitsFloat16();
    return half && fits ? type : DType.F32;
  }

  /** The 16-bit type that a GPU computes in: bfloat16 if it has it. */
  public DType halfType() {
    return halfType(kernels.architecture());
  }

  private static DType halfType(int architecture) {
    return architecture >= BF16_ARCHITECTURE ? DType.BF16 : DType.F16;
  }

  /** Such as "CPU avx512, 2 threads", the same with ", no GPU" where one was looked for, or "NVIDIA H100 (sm_90)". */
  public String describe() {
    if (isCuda()) {
      String note = attention.note();
      return kernels.deviceName() + " (sm_" + kernels.architecture() + ")" + (note.isEmpty() ? "" : ", " + note);
    }
    int threads = kernels.threads();
    return "CPU " + kernels.deviceName() + ", " + threads + (threads == 1 ? " thread" : " threads")
        + (noGpu.isEmpty() ? "" : ", no GPU");
  }

  @Override
  public void close() {
    attention.close();
    gemm.close();
    lanes.close();
    if (ahead != kernels) {
      ahead.close();
    }
    device.close();
    kernels.close();
  }
}
