package dev.oribi.generate;

import dev.oribi.OribiException;
import dev.oribi.gguf.GgufFolder;
import dev.oribi.model.Decoder.Training;
import dev.oribi.model.Machine;
import dev.oribi.model.config.GenerationConfig;
import dev.oribi.model.config.LoraConfig;
import dev.oribi.model.config.ModelConfig;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.StreamDecoder;
import dev.oribi.text.Tokenizer;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;
import java.util.function.IntPredicate;
import java.util.function.Predicate;

/**
 * A model folder, with or without an adapter, that continues texts and answers chats. Closing it frees the memory. One
 * thread at a time.
 *
 * <pre>{@code
 * try (TextModel model = TextModel.open(Path.of("models/llama"), Path.of("oribi-output"), 0, 512)) {
 *   String answer = model.chat(List.of(Map.of("role", "user", "content", "Who are you?")),
 *       model.greedy(64), piece -> System.out.print(piece));
 * }
 * }</pre>
 */
public final class TextModel implements AutoCloseable {
  private final Tokenizer tokenizer;
  private final ChatTemplate template;
  private final GenerationConfig defaults;
  private final Machine machine;
  private final Runner runner;
  private ChatTemplate ofAdapter;

  private TextModel(Tokenizer tokenizer, ChatTemplate template, GenerationConfig defaults, Machine machine, Runner runner) {
    this.tokenizer = tokenizer;
    this.template = template;
    this.defaults = defaults;
    this.machine = machine;
    this.runner = runner;
  }

  /**
   * Opens a folder on a GPU if there is one, else on the CPU.
   *
   * @param adapter folder of a PEFT adapter, or null
   * @param threads of the CPU; 0 for all the cores there are
   * @param context most tokens of prompt and answer; cut to what the model was made for
   */
  public static TextModel open(Path folder, Path adapter, int threads, int context) {
    return open(folder, adapter, Storage.PLAIN, Machine.open("auto", threads), context);
  }

  /**
   * How the base is held, as an adapter was trained on top of it.
   *
   * @param layersIn4bit the linear layers are in 4 bits
   * @param headIn8bit the output head is in 8 bits
   */
  public record Storage(boolean layersIn4bit, boolean headIn8bit) {
    /** As the folder holds it. */
    public static final Storage PLAIN = new Storage(false, false);
  }

  /** Opens a folder and takes its memory on {@code machine}, which is closed with it, or at once if this fails. */
  public static TextModel open(Path folder, Path adapter, Storage storage, Machine machine, int context) {
    try {
      return load(folder, adapter, storage, machine, context);
    } catch (RuntimeException e) {
      machine.close();
      throw e;
    }
  }

  private static TextModel load(Path folderOrFile, Path adapter, Storage storage, Machine machine, int context) {
    Path folder = GgufFolder.of(folderOrFile);
    ModelConfig config = ModelConfig.read(folder);
    Tokenizer tokenizer = Tokenizer.load(folder);
    try {
      ChatTemplate template = ChatTemplate.load(folder).orElse(null);
      GenerationConfig defaults = GenerationConfig.read(folder, config);
      TextModel model = new TextModel(tokenizer, template, defaults, machine, new Runner(folder, adapter, storage, machine, context));
      model.ofAdapter = templateOf(adapter);
      return model;
    } catch (RuntimeException e) {
      tokenizer.close();
      throw e;
    }
  }

  /** An adapter brings the template that its answers were learned with, where that is not the model's. */
  private static ChatTemplate templateOf(Path adapter) {
    return adapter == null ? null : ChatTemplate.load(adapter).orElse(null);
  }

  /** The adapter of a folder as it is run: what it holds, and no dropout. */
  public static Training training(Path adapter) {
    return adapter == null ? Training.NONE : Training.adapter(LoraConfig.read(adapter));
  }

  /** What a head in 8 bits lost when it was loaded; see {@link Weights#headReport}. */
  public Optional<String> headReport() {
    return runner.headReport();
  }

  public Tokenizer tokenizer() {
    return tokenizer;
  }

  public Optional<ChatTemplate> template() {
    return Optional.ofNullable(ofAdapter != null ? ofAdapter : template);
  }

  /** What the folder's generation_config.json says. */
  public GenerationConfig defaults() {
    return defaults;
  }

  /**
   * Puts another adapter on the base model, or none. One of the same shape as the present one takes its place at once; for any
   * other the model is loaded again.
   *
   * @param adapter folder of a PEFT adapter, or null
   */
  public void useAdapter(Path adapter) {
    ChatTemplate wanted = templateOf(adapter);
    runner.use(adapter);
    ofAdapter = wanted;
  }

  /** The adapter that is on; empty: the base model. */
  public Optional<Path> adapter() {
    return Optional.ofNullable(runner.adapter());
  }

  /** Always the most likely token. */
  public Generator.Options greedy(int maxNewTokens) {
    return Generator.Options.greedy(maxNewTokens, stopIds());
  }

  /** Tokens that end a text: those of the configuration and the tokenizer's own. */
  public Set<Integer> stopIds() {
    Set<Integer> ids = new HashSet<>(defaults.eosTokenIds());
    tokenizer.eosTokenId().ifPresent(ids::add);
    return ids;
  }

  /**
   * Goes on from a text.
   *
   * @param onText sees each piece of the answer as soon as its characters are whole
   */
  public String complete(String prompt, Generator.Options options, Consumer<String> onText) {
    return generate(tokenizer.encode(prompt, true), options, onText);
  }

  /** Answers a conversation, by the model's chat template. {@code messages}: maps with role and content. */
  public String chat(List<Map<String, Object>> messages, Generator.Options options, Consumer<String> onText) {
    return generate(chatPrompt(messages), options, onText);
  }

  /** The tokens of a conversation up to where the answer begins. */
  public int[] chatPrompt(List<Map<String, Object>> messages) {
    return chatPrompt(messages, Map.of());
  }

  /** The same; {@code further} are variables that the template gets besides its own, such as {@code enable_thinking}. */
  public int[] chatPrompt(List<Map<String, Object>> messages, Map<String, Object> further) {
    ChatTemplate now = template().orElse(null);
    if (now == null) {
      throw new OribiException(
          "this model has no chat template: put a chat_template.jinja into its folder, or use `oribi generate` with plain text");
    }
    Map<String, Object> variables = tokenizer.templateVariables();
    variables.putAll(further);
    return tokenizer.encode(now.render(messages, true, variables).text(), false);
  }

  /** Most tokens of prompt and answer together. */
  public int context() {
    return runner.context();
  }

  /** Refuses a prompt that no answer can follow, as every call that goes on from one does. */
  public void requireRoom(int[] prompt) {
    Generator.requireRoom(prompt.length, runner.context());
  }

  /** Goes on from token ids; returns the new ones. */
  public int[] continueIds(int[] prompt, Generator.Options options) {
    return continueIds(prompt, options, id -> true);
  }

  /** The same; {@code onToken} sees each token as it is drawn, and false ends the text. */
  public int[] continueIds(int[] prompt, Generator.Options options, IntPredicate onToken) {
    return runner.generator().generate(prompt, options, onToken);
  }

  private String generate(int[] prompt, Generator.Options options, Consumer<String> onText) {
    return answer(prompt, options, List.of(), piece -> {
      onText.accept(piece);
      return true;
    }).text();
  }

  /** Bytes of weights that generating a token reads, for measurements. */
  public long bytesOfToken() {
    return runner.generator().bytesOfToken();
  }

  /** Why a text ended. */
  public enum End {
    /** At a token or a text that ends it. */
    STOP,
    /** At the most new tokens or the end of the context. */
    LENGTH,
    /** Whoever took the text wanted no more. */
    CANCELLED
  }

  /** What was generated, without the text that ended it. */
  public record Answer(String text, int promptTokens, int newTokens, End end) {}

  /**
   * Goes on from tokens.
   *
   * @param stops texts that end the answer, wherever tokens begin; they are not part of it
   * @param onText sees each piece as soon as its characters are whole and cannot begin a stop, and empty ones between the parts of a
   *     long prompt; false ends the text
   */
  public Answer answer(int[] prompt, Generator.Options options, List<String> stops, Predicate<String> onText) {
    StreamDecoder decoder = tokenizer.streamDecoder();
    StopText text = new StopText(stops, onText);
    int[] fresh = runner.generator().generate(prompt, options, text::wanted, id -> text.add(decoder.push(id)));
    boolean cut = text.stopped();
    text.add(decoder.flush());
    text.finish();
    int used = fresh.length + (cut ? 1 : 0); // the token that completed a stop was drawn too
    boolean full = fresh.length == options.maxNewTokens() || prompt.length + fresh.length >= runner.context();
    return new Answer(text.text(), prompt.length, used, text.cancelled() ? End.CANCELLED : !text.stopped() && full ? End.LENGTH : End.STOP);
  }

  @Override
  public void close() {
    runner.close();
    machine.close();
    tokenizer.close();
  }
}
