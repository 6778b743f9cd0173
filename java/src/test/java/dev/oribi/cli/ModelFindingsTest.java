package dev.oribi.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.oribi.io.Checkpoint;
import dev.oribi.io.SafetensorsWriter;
import dev.oribi.io.SafetensorsWriter.Tensor;
import dev.oribi.io.TensorType;
import dev.oribi.text.ByteTokenizer;
import dev.oribi.text.ChatTemplate;
import dev.oribi.text.Tokenizer;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Each fault is made in a folder that has no other, and is the only thing that is told. */
class ModelFindingsTest {
  private static final int VOCABULARY = 260;
  private static final int HIDDEN = 24;
  private static final int START = 258;
  private static final int END = 259;
  private static final String GOOD = "{{ bos_token }}" + ByteTokenizer.CHATML;

  @TempDir
  private Path folder;

  @BeforeEach
  void writeTokenizer() throws IOException {
    ByteTokenizer.write(folder);
  }

  // ---------------------------------------------------------------------------------------------------------- helpers

  /** Rows of random numbers, those of {@code zero} zero, and if {@code twin} is given these rows all alike. */
  private static float[] matrix(Set<Integer> zero, Set<Integer> twin) {
    float[] values = new float[VOCABULARY * HIDDEN];
    Random random = new Random(1);
    for (int i = 0; i < values.length; i++) {
      int row = i / HIDDEN;
      float value = (float) random.nextGaussian();
      values[i] = zero.contains(row) ? 0 : twin.contains(row) ? 0.01f * (i % HIDDEN) + 1e-5f * row : value;
    }
    return values;
  }

  /** A checkpoint; {@code head} null is a tied one. */
  private Path weights(float[] embedding, float[] head) {
    List<Tensor> tensors = head == null ? List.of(new Tensor("model.embed_tokens.weight", TensorType.F32, VOCABULARY, HIDDEN))
        : List.of(new Tensor("model.embed_tokens.weight", TensorType.F32, VOCABULARY, HIDDEN),
            new Tensor("lm_head.weight", TensorType.F32, VOCABULARY, HIDDEN));
    Path file = folder.resolve("model.safetensors");
    SafetensorsWriter.write(file, tensors, SafetensorsWriter.PT,
        (tensor, sink) -> sink.floats(FloatBuffer.wrap(tensor.name().startsWith("lm") ? head : embedding)));
    return file;
  }

  private Path trained() {
    return weights(matrix(Set.of(), Set.of()), null);
  }

  private List<String> found(Path weights, String template, Collection<Integer> ends) {
    try (Checkpoint checkpoint = Checkpoint.open(weights);
        Tokenizer tokenizer = Tokenizer.load(folder)) {
      return ModelFindings.of(checkpoint, tokenizer, template == null ? null : ChatTemplate.parse(template), ends).stream()
          .map(f -> (f.warning() ? "WARNING " : "note ") + f.text()).toList();
    }
  }

  /** What is told of a model whose tokenizer and template agree, less that they both write the beginning. */
  private List<String> of(String template, Integer... ends) {
    return found(trained(), template, List.of(ends)).stream().filter(text -> !text.contains("both begin a text")).toList();
  }

  private void tokenizerConfig(String json) throws IOException {
    Files.writeString(folder.resolve("tokenizer_config.json"), json);
  }

  // ------------------------------------------------------------------------------------------------------------- tests

  @Test
  void nothingIsToldOfASoundFolder() {
    assertThat(of(GOOD, END)).isEmpty();
    assertThat(of(null)).isEmpty();
  }

  /** Llama 3: https://github.com/unslothai/unsloth, unsloth_zoo/tokenizer_utils.py, fix_untrained_tokens. */
  @Test
  void untrainedRowsOfTheTemplateAreAWarning() {
    Path tied = weights(matrix(Set.of(START, END), Set.of()), null);
    assertThat(found(tied, GOOD, List.of(END))).anySatisfy(text -> assertThat(text)
        .startsWith("WARNING the chat template writes tokens that the model was never trained on").contains("<|im_start|>, <|im_end|>."));
    assertThat(found(weights(matrix(Set.of(7, 9), Set.of()), null), GOOD, List.of(END)))
        .anySatisfy(text -> assertThat(text).startsWith("note 2 tokens were never trained"));
  }

  /** A head of its own must be zero there too, or have the same row for several of these tokens. */
  @Test
  void theHeadDecidesWithTheEmbedding() {
    float[] embedding = matrix(Set.of(START, END), Set.of());
    assertThat(found(weights(embedding, matrix(Set.of(), Set.of())), GOOD, List.of(END)))
        .as("rows of the head that differ were trained").noneMatch(text -> text.contains("never trained"));
    assertThat(found(weights(embedding, matrix(Set.of(END), Set.of())), GOOD, List.of(END)))
        .anySatisfy(text -> assertThat(text).contains("zero: <|im_end|>."));
    assertThat(found(weights(embedding, matrix(Set.of(), Set.of(START, END))), GOOD, List.of(END)))
        .as("rows that are alike to three places").anySatisfy(text -> assertThat(text).contains("zero: <|im_start|>, <|im_end|>."));
  }

  /** A row may begin with zeros, or be negative everywhere: only one that is zero everywhere is untrained. */
  @Test
  void aRowIsReadToItsEnd() {
    float[] embedding = matrix(Set.of(START), Set.of());
    embedding[START * HIDDEN + HIDDEN - 1] = -1e-3f;
    Arrays.fill(embedding, END * HIDDEN, (END + 1) * HIDDEN, -0.5f);
    assertThat(found(weights(embedding, null), GOOD, List.of(END))).noneMatch(text -> text.contains("never trained"));
  }

  /** Phi-4 and Llama 3: https://unsloth.ai/blog/phi4, https://github.com/unslothai/unsloth/issues/416. */
  @Test
  void paddingThatIsTheEndIsTold() throws IOException {
    tokenizerConfig("{\"bos_token\": \"<s>\", \"eos_token\": \"<|im_end|>\", \"pad_token\": \"<|im_end|>\"}");
    assertThat(of(GOOD)).singleElement().asString().startsWith("note <|im_end|> both pads and ends");
  }

  @Test
  void aBeginningThatIsThereTwiceIsAWarning() {
    assertThat(of("{{ bos_token }}" + GOOD, END)).singleElement().asString()
        .startsWith("WARNING the chat template begins a conversation with <s> 2 times");
  }

  /** Llama 3: the template writes the token and the tokenizer adds another. */
  @Test
  void aBeginningThatTheTokenizerAddsTooIsANote() {
    assertThat(found(trained(), GOOD, List.of(END))).singleElement().asString()
        .startsWith("note chat template and tokenizer both begin a text with <s>");
  }

  /** Gemma: https://unsloth.ai/blog/gemma-bugs, the first of the eight. */
  @Test
  void aBeginningThatIsMissingIsAWarning() {
    assertThat(of(ByteTokenizer.CHATML, END)).singleElement().asString()
        .startsWith("WARNING the tokenizer begins every text with <s>, the chat template does not");
  }

  /** https://github.com/unslothai/unsloth: templates without add_generation_prompt are repaired there. */
  @Test
  void aMissingGenerationPromptIsAWarning() {
    String without = "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}";
    assertThat(of(without, END)).singleElement().asString().startsWith("WARNING the chat template has no generation prompt");
  }

  /** Phi-4: https://unsloth.ai/blog/phi4, the template that always opens the assistant's turn. */
  @Test
  void aGenerationPromptThatIsAlwaysThereIsTold() {
    String always = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content"
        + " + '<|im_end|><|im_start|>assistant\n' }}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}";
    assertThat(of(always, END)).singleElement().asString().startsWith("note the chat template begins an answer after every question");
  }

  /** Phi-4: https://unsloth.ai/blog/phi4, the end of a text was another token than the end of a turn. */
  @Test
  void anEndAtWhichNothingStopsIsAWarning() {
    assertThat(of(GOOD)).singleElement().asString()
        .startsWith("WARNING the chat template ends an answer with <|im_end|>, generation stops at </s>");
    String never = "{{ bos_token }}{% for m in messages %}{{ m.role + ': ' + m.content }}\n{% endfor %}{% if add_generation_prompt %}"
        + "assistant: {% endif %}";
    assertThat(of(never, END)).singleElement().asString().startsWith("WARNING the chat template ends an answer with nothing");
  }

  @Test
  void aTemplateThatRefusesIsToldWithItsReason() {
    assertThat(of("{{ raise_exception('no chats') }}", END)).singleElement().asString()
        .startsWith("WARNING the chat template refuses a plain question").contains("no chats");
  }
}
