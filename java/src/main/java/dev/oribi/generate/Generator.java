package dev.oribi.generate;

import dev.oribi.OribiException;
import dev.oribi.device.Device;
import dev.oribi.kernel.DType;
import dev.oribi.kernel.Kernels;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Inputs;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Executor;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.Run;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.function.BooleanSupplier;
import java.util.function.IntPredicate;

/**
 * Draws tokens from a model, one sequence at a time. Making one plans; {@link #take} takes the memory. One thread at a time.
 */
public final class Generator implements AutoCloseable {
  /** Tokens of a prompt that go through the model at once: enough for full products, little memory. */
  private static final int CHUNK = 256;

  /**
   * How to draw.
   *
   * @param stopIds tokens that end the text; they are not part of it
   * @param temperature 0: always the most likely token
   */
  public record Options(
      int maxNewTokens,
      float temperature,
      int topK,
      float topP,
      float minP,
      float repetitionPenalty,
      long seed,
      Set<Integer> stopIds) {
    /** The most likely token, always. */
    public static Options greedy(int maxNewTokens, Set<Integer> stopIds) {
      return new Options(maxNewTokens, 0, 0, 1, 0, 1, 0, stopIds);
    }

    /** Refuses numbers that no call can have, by name. */
    public Options {
      require(maxNewTokens >= 0, "max_new_tokens must not be negative, and is " + maxNewTokens);
      require(temperature >= 0, "temperature must not be negative, and is " + temperature);
      require(temperature < Float.POSITIVE_INFINITY, "temperature must be a number that a float holds, and is " + temperature);
      require(topK >= 0, "top_k must not be negative (0 is off), and is " + topK);
      require(topP > 0 && topP <= 1, "top_p must be above 0 and at most 1, and is " + topP);
      require(minP >= 0 && minP < 1, "min_p must be from 0 to below 1, and is " + minP);
      require(repetitionPenalty > 0, "repetition_penalty must be above 0, and is " + repetitionPenalty);
      require(repetitionPenalty < Float.POSITIVE_INFINITY, "repetition_penalty must be a number that a float holds, and is " + repetitionPenalty);
      stopIds = Set.copyOf(stopIds);
    }

    private static void require(boolean holds, String message) {
      if (!holds) {
        throw new OribiException(message);
      }
    }
  }

  private final Decoder model;
  private final Machine machine;
  private final int context;
  private final Inputs inputs;
  private final Buffer slots;
  private final Buffer start = Decoder.io("kv_start", DType.I32, Rows.FIXED, 1);
  private final Buffer length = Decoder.io("kv_length", DType.I32, Rows.FIXED, 1);
  private final Buffer logits;
  private final Buffer token = Decoder.io("token", DType.I32, Rows.FIXED, 1);
  private final Buffer seen;
  private final Buffer sampling;
  private final Program program = new Program("generate");
  private final Plan plan;
  private final Executor executor;
  private final List<Integer> cached = new ArrayList<>();

  /**
   * @param model made for at least {@code context} positions
   * @param context most tokens of prompt and answer together
   */
  public Generator(Decoder model, Machine machine, int context) {
    this.model = model;
    this.machine = machine;
    this.executor = machine.executor();
    this.context = context;
    long vocabulary = model.config().vocabSize();
    int chunk = Math.min(CHUNK, context);
    Emit.Sizes sizes = new Emit.Sizes(chunk, 1, 1, chunk, model.parameters().type(), false, 0);
    inputs = model.inputs(sizes);
    slots = Decoder.io("slots", DType.I32, Rows.TOKENS, chunk);
    logits = new Buffer("logits", Lifetime.IO, DType.F32, Rows.TARGETS, 1, vocabulary);
    seen = Decoder.io("seen", DType.I32, Rows.FIXED, context);
    sampling = Decoder.io("sample.workspace", DType.U8, Rows.FIXED, Kernels.sampleWorkspace(1, vocabulary));
    model.emitLogits(
        Emit.forText(program, sizes, machine.library()), inputs, model.caches(context, slots, start, length), logits);
    List<Buffer> held = new ArrayList<>(model.parameters().buffers());
    held.addAll(List.of(token, seen, sampling));
    plan = new Plan(List.of(program), held, model.loadingBytes());
  }

  /** {@link Decoder#bytesOfToken}. */
  long bytesOfToken() {
    return model.bytesOfToken();
  }

  /** The memory and the ops. */
  public Plan plan() {
    return plan;
  }

  /** Takes the memory and returns what fills it. */
  public Weights take() {
    plan.take(machine.device(), "generation");
    return new Weights(model, machine, plan.shared());
  }

  /**
   * Goes on from a prompt until a stop token, the most new tokens, or the end of the context.
   *
   * @param onToken sees each token as it is drawn; false ends the text
   * @return the new tokens, without the prompt and the stop token
   */
  public int[] generate(int[] prompt, Options o, IntPredicate onToken) {
    return generate(prompt, o, () -> true, onToken);
  }

  /** The same; {@code wanted} is asked between the parts of a long prompt, and false ends it with no token drawn. */
  int[] generate(int[] prompt, Options o, BooleanSupplier wanted, IntPredicate onToken) {
    requireRoom(prompt.length, context);
    float[] last = feed(prompt, wanted);
    if (last == null) {
      return new int[0];
    }
    List<Integer> text = new ArrayList<>();
    for (int i : prompt) {
      text.add(i);
    }
    int[] fresh = new int[Math.min(o.maxNewTokens, context - prompt.length)];
    for (int n = 0; n < fresh.length; n++) {
      if (!Float.isFinite(last[0])) {
        throw new OribiException("the model's logits are not finite: its weights or its adapter are damaged");
      }
      int next = sample(text, o, n);
      if (o.stopIds.contains(next) || !onToken.test(next)) {
        return Arrays.copyOf(fresh, n);
      }
      fresh[n] = next;
      text.add(next);
      if (n + 1 < fresh.length) {
        last = feed(text.stream().mapToInt(Integer::intValue).toArray(), wanted);
      }
    }
    return fresh;
  }

  static void requireRoom(int prompt, int context) {
    if (prompt == 0) {
      throw new OribiException("the prompt has no tokens: give a text, or a model whose tokenizer adds a first token");
    }
    if (prompt >= context) {
      throw new OribiException("the prompt has " + prompt + " tokens and the context " + context + ": shorten it, or raise --max-seq-length");
    }
  }

  /** Brings the cache to {@code text}, computing only what it does not hold; returns the first logit, for a check, or null if it is not wanted. */
  private float[] feed(int[] text, BooleanSupplier wanted) {
    int same = 0;
    while (same < cached.size() && same < text.length - 1 && cached.get(same) == text[same]) {
      same++;
    }
    cached.subList(same, cached.size()).clear();
    float[] first = new float[1];
    try {
      for (int begin = same; begin < text.length; begin += (int) slots.rows()) {
        if (begin > same && !wanted.getAsBoolean()) {
          return null;
        }
        forward(text, begin, (int) Math.min(slots.rows(), text.length - begin));
      }
      machine.device().read(logits.mem(), first, 0, 1);
    } catch (OribiException e) {
      cached.clear(); // A GPU tells of a wrong token only now: what it wrote for it must not be taken for a cache.
      throw e;
    }
    return first;
  }

  /** Drops what was computed: the weights have changed. */
  void forget() {
    cached.clear();
  }

  private void forward(int[] text, int begin, int n) {
    int[] positions = new int[n];
    for (int i = 0; i < n; i++) {
      positions[i] = begin + i;
    }
    Device d = machine.device();
    d.write(inputs.ids().mem(), Arrays.copyOfRange(text, begin, begin + n), n);
    d.write(inputs.positions().mem(), inputs.places().of(positions, context), n);
    d.write(slots.mem(), positions, n);
    d.write(inputs.cuSeqlens().mem(), new int[] {0, n}, 2);
    d.write(start.mem(), new int[] {0}, 1);
    d.write(length.mem(), new int[] {begin + n}, 1);
    d.write(inputs.targetRows().mem(), new int[] {n - 1}, 1);
    machine.kernels().keepAwake(Emit.readsBlocks(n));
    try {
      executor.run(program, new Run(machine.library(), n, 1, 1, n, 0));
    } finally {
      machine.kernels().keepAwake(false);
    }
    for (int i = begin; i < begin + n; i++) {
      cached.add(text[i]);
    }
  }

  private int sample(List<Integer> text, Options o, int n) {
    int[] ids = text.stream().mapToInt(Integer::intValue).toArray();
    machine.device().write(seen.mem(), ids, ids.length);
    Kernels.Sampling how =
        new Kernels.Sampling(o.temperature, o.topK, o.topP, o.minP, o.repetitionPenalty, o.seed, n);
    machine
        .kernels()
        .sample(token.mem(), logits.mem(), seen.mem(), sampling.mem(), 1, model.config().vocabSize(), ids.length, how);
    return machine.device().readInt(token.mem());
  }

  @Override
  public void close() {
    executor.close();
    plan.close();
  }
}
