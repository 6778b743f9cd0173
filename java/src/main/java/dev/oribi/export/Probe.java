package dev.oribi.export;

import dev.oribi.OribiException;
import dev.oribi.generate.TextModel;
import dev.oribi.kernel.DType;
import dev.oribi.model.FrozenStorage;
import dev.oribi.model.Decoder;
import dev.oribi.model.Decoder.Inputs;
import dev.oribi.model.Machine;
import dev.oribi.model.Weights;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.program.Buffer;
import dev.oribi.program.Buffer.Lifetime;
import dev.oribi.program.Buffer.Rows;
import dev.oribi.program.Emit;
import dev.oribi.program.Executor;
import dev.oribi.program.Plan;
import dev.oribi.program.Program;
import dev.oribi.program.Run;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The logits of a model on fixed prompts, at every position: what two forms of one model are compared by. */
final class Probe {
  /** Plain text, code, numbers, several scripts: what is rounded badly shows in some of them. */
  private static final List<String> TEXTS = List.of(
      "Once upon a time there was a little girl who",
      "The capital of France is Paris, and the capital of Japan is",
      "def add(a, b):\n    return a +",
      "1 2 3 4 5 6 7 8 9 10 11",
      "Der Hund schläft, weil er müde ist.",
      "東京は日本の首都です。");

  private static final String QUESTION = "What is the color of the sky?";

  /** Longest prompt in tokens: byte by byte a text of another script can become long. */
  private static final int MOST = 48;

  private Probe() {}

  /** The prompts as a model's tokenizer makes them; with a chat template, a question too. */
  static List<int[]> prompts(Path folder) {
    ModelConfig config = ModelConfig.read(folder);
    int most = Math.min(MOST, config.contextLength());
    List<int[]> prompts = new ArrayList<>();
    try (Tokenizer tokenizer = Tokenizer.load(folder)) {
      for (String text : TEXTS) {
        prompts.add(cut(tokenizer.encode(text, true), most));
      }
      ChatTemplate.load(folder).ifPresent(template -> {
        Map<String, Object> variables = new HashMap<>();
        tokenizer.bosToken().ifPresent(t -> variables.put("bos_token", t));
        tokenizer.eosToken().ifPresent(t -> variables.put("eos_token", t));
        String text = template.render(List.of(Map.of("role", "user", "content", QUESTION)), true, variables).text();
        prompts.add(cut(tokenizer.encode(text, false), most));
      });
    }
    prompts.removeIf(p -> p.length == 0);
    return prompts;
  }

  private static int[] cut(int[] ids, int most) {
    return ids.length <= most ? ids : Arrays.copyOf(ids, most);
  }

  /** Logits [positions of all prompts, V], one prompt after the other. */
  static float[][] logits(Path folder, Path adapter, TextModel.Storage storage, Machine machine, List<int[]> prompts) {
    ModelConfig config = ModelConfig.read(folder);
    int longest = prompts.stream().mapToInt(p -> p.length).max().orElseThrow();
    Decoder model = new Decoder(config, machine.defaultType(config), TextModel.training(adapter),
        FrozenStorage.of(config, storage.layersIn4bit(), storage.headIn8bit()), longest);
    Emit.Sizes sizes = new Emit.Sizes(longest, longest, 1, longest, model.parameters().type(), false, 0);
    Inputs in = model.inputs(sizes);
    Buffer out = new Buffer("logits", Lifetime.IO, DType.F32, Rows.TARGETS, longest, config.vocabSize());
    Program program = new Program("probe");
    model.emitLogits(new Emit(program, sizes, machine.library()), in, List.of(), out);
    try (Plan plan = new Plan(List.of(program), model.parameters().buffers(), model.loadingBytes()); Executor executor = machine.executor()) {
      plan.take(machine.device(), "comparing logits");
      new Weights(model, machine, plan.shared()).load(folder, adapter);
      List<float[]> all = new ArrayList<>();
      for (int[] prompt : prompts) {
        run(prompt, in, out, program, executor, machine, all, config.vocabSize());
      }
      return all.toArray(float[][]::new);
    }
  }

  private static void run(int[] prompt, Inputs in, Buffer out, Program program, Executor executor, Machine machine,
      List<float[]> all, int vocabulary) {
    int n = prompt.length;
    int[] counting = new int[n];
    Arrays.setAll(counting, i -> i);
    machine.device().write(in.ids().mem(), prompt, n);
    machine.device().write(in.positions().mem(), in.places().of(counting, new int[] {0, n}), n);
    machine.device().write(in.cuSeqlens().mem(), new int[] {0, n}, 2);
    machine.device().write(in.targetRows().mem(), counting, n);
    executor.run(program, new Run(machine.library(), n, n, 1, n, 0));
    for (int i = 0; i < n; i++) {
      float[] row = new float[vocabulary];
      machine.device().read(out.mem().slice(4L * i * vocabulary, 4L * vocabulary), row, 0, vocabulary);
      if (!Float.isFinite(row[0])) {
        throw new OribiException("the model's logits are not finite: its weights or its adapter are damaged");
      }
      all.add(row);
    }
  }
}
