package dev.oribi.model.config;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.oribi.OribiException;
import dev.oribi.io.Json;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A LoRA adapter as PEFT describes it in {@code adapter_config.json}.
 *
 * <p>For a linear layer {@code W} of shape [out, in] the adapter holds {@code A} [r, in] and {@code B} [out, r]; the layer then
 * computes with {@code W + scale * B * A}. Modules are named by their dotted path in the Hugging Face model, such as {@code
 * model.layers.0.self_attn.q_proj}. Options of PEFT that Oribi does not implement are refused by name when they are on.
 *
 * @param r rank
 * @param loraAlpha the scale is alpha / r, or alpha / sqrt(r) with {@code useRslora}
 * @param loraDropout probability with which an input element of the adapter is dropped in training; below 1
 * @param targetModules modules that get an adapter: a {@code List<String>} of names (the whole path or its end), a {@code
 *     String} with a regular expression for the whole path, or {@code "all-linear"}; null is PEFT's default for Llama
 * @param targetParameters parameters of fused experts that get one, by their whole name or its end, see {@link FusedExperts}; may
 *     be empty
 * @param excludeModules modules that get none, by the same rules (list or regular expression); null for no exception
 * @param useRslora rank-stabilized scale
 * @param modulesToSave modules trained in full and stored in the adapter, such as {@code lm_head}; may be empty
 * @param initLoraWeights how a new adapter begins
 * @param rankPattern ranks that differ from {@code r}, by a regular expression for the end of the path
 * @param alphaPattern alphas that differ from {@code loraAlpha}, likewise
 * @param baseModelNameOrPath the model it was trained on; may be null
 */
public record LoraConfig(int r, double loraAlpha, double loraDropout, Object targetModules, List<String> targetParameters,
    Object excludeModules, boolean useRslora, List<String> modulesToSave, Init initLoraWeights, Map<String, Integer> rankPattern,
    Map<String, Double> alphaPattern, String baseModelNameOrPath) {
  public static final String FILE = "adapter_config.json";
  public static final String WEIGHTS_FILE = "adapter_model.safetensors";

  /** What PEFT puts before every name in an adapter's file. */
  public static final String PREFIX = "base_model.model.";

  public static final String ALL_LINEAR = "all-linear";

  /** PEFT's choice for Llama when no target is named. */
  public static final List<String> DEFAULT_TARGETS = List.of("q_proj", "v_proj");

  /** What {@code all-linear} means for Llama: every linear layer but the output projection. */
  public static final List<String> LINEAR_MODULES =
      List.of("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj");

  private static final int MAX_RANK = 1 << 16;
  private static final double MAX_ALPHA = 1e9;

  private static final Set<String> READ = Set.of("peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "target_modules",
      "target_parameters", "exclude_modules", "use_rslora", "modules_to_save", "init_lora_weights", "rank_pattern", "alpha_pattern",
      "base_model_name_or_path", "bias");

  /** Keys that say nothing about the arithmetic. */
  private static final Set<String> HARMLESS = Set.of("revision", "auto_mapping", "peft_version", "inference_mode", "megatron_core",
      "qalora_group_size", "runtime_config");

  /** How a new adapter begins: B is zero, or (for {@link #RANDOM}) nothing is. */
  public enum Init {
    /** A uniform within 1/sqrt(in), B zero: {@code true}. */
    KAIMING,
    /** A normal with deviation 1/r, B zero: {@code "gaussian"}. */
    GAUSSIAN,
    /** A and B uniform, so that the adapter changes the model from the start: {@code false}. */
    RANDOM
  }

  public LoraConfig {
    check(r >= 1 && r <= MAX_RANK, "r must be from 1 to " + MAX_RANK + ", found " + r);
    check(loraAlpha > 0 && loraAlpha <= MAX_ALPHA, "lora_alpha must be above 0, found " + loraAlpha);
    check(loraDropout >= 0 && loraDropout < 1, "lora_dropout must be at least 0 and below 1, found " + loraDropout);
    targetParameters = List.copyOf(targetParameters);
    boolean parametersAlone = !targetParameters.isEmpty() && (targetModules == null || targetModules.equals(List.of()));
    targetModules = parametersAlone ? List.of() : modules("target_modules", targetModules == null ? DEFAULT_TARGETS : targetModules);
    check(targetParameters.isEmpty() || loraDropout == 0, "lora_dropout must be 0 with target_parameters, found " + loraDropout);
    excludeModules = excludeModules == null ? null : modules("exclude_modules", excludeModules);
    modulesToSave = modulesToSave == null ? List.of() : List.copyOf(modulesToSave);
    rankPattern = Collections.unmodifiableMap(new LinkedHashMap<>(rankPattern));
    alphaPattern = Collections.unmodifiableMap(new LinkedHashMap<>(alphaPattern));
    if (targetModules instanceof List<?> names) {
      for (String module : modulesToSave) {
        check(!names.contains(module), "module " + module + " is both in target_modules and in modules_to_save");
      }
    }
  }

  /** Without target_parameters. */
  public LoraConfig(int r, double loraAlpha, double loraDropout, Object targetModules, Object excludeModules, boolean useRslora,
      List<String> modulesToSave, Init initLoraWeights, Map<String, Integer> rankPattern, Map<String, Double> alphaPattern,
      String baseModelNameOrPath) {
    this(r, loraAlpha, loraDropout, targetModules, List.of(), excludeModules, useRslora, modulesToSave, initLoraWeights, rankPattern,
        alphaPattern, baseModelNameOrPath);
  }

  /** A configuration for training, with PEFT's defaults for what is not named. */
  public static LoraConfig of(int r, double loraAlpha, double loraDropout, Object targetModules, boolean useRslora,
      List<String> modulesToSave, String baseModelNameOrPath) {
    return new LoraConfig(r, loraAlpha, loraDropout, targetModules, null, useRslora, modulesToSave, Init.KAIMING, Map.of(),
        Map.of(), baseModelNameOrPath);
  }

  /** The same for modules of these names. */
  public LoraConfig targeting(List<String> modules) {
    return new LoraConfig(r, loraAlpha, loraDropout, modules, targetParameters, excludeModules, useRslora, modulesToSave, initLoraWeights, rankPattern,
        alphaPattern, baseModelNameOrPath);
  }

  /** A list of strings as such; a string as a regular expression that compiles, or {@code all-linear}. */
  private static Object modules(String key, Object value) {
    if (value instanceof Collection<?> names && names.stream().allMatch(String.class::isInstance)) {
      check(!names.isEmpty(), key + " is empty; name at least one module");
      return List.copyOf(names);
    }
    check(value instanceof String, key + " must be a list of names or a regular expression");
    if (((String) value).equalsIgnoreCase(ALL_LINEAR) && key.equals("target_modules")) {
      return ALL_LINEAR;
    }
    new ModulePattern((String) value);
    return value;
  }

  private static void check(boolean holds, String message) {
    if (!holds) {
      throw new OribiException(message + ".");
    }
  }

  /** Whether the linear layer at this path gets an adapter. */
  public boolean targets(String modulePath) {
    if (excludeModules != null && matches(excludeModules, modulePath)) {
      return false;
    }
    return targetModules.equals(ALL_LINEAR)
        ? !named(modulePath, "lm_head") && !saves(modulePath)
        : matches(targetModules, modulePath);
  }

  /** Whether the parameter of this full name gets an adapter. */
  public boolean targetsParameter(String name) {
    return targetParameters.stream().anyMatch(target -> named(name, target));
  }

  /** Whether the module at this path is trained in full and stored with the adapter. */
  public boolean saves(String modulePath) {
    return modulesToSave.stream().anyMatch(name -> named(modulePath, name));
  }

  private static boolean matches(Object modules, String path) {
    return modules instanceof List<?> names
        ? names.stream().anyMatch(name -> named(path, (String) name))
        : new ModulePattern((String) modules).matches(path);
  }

  private static boolean named(String path, String name) {
    return path.equals(name) || path.endsWith("." + name);
  }

  /** Rank of the adapter of a module. */
  public int rank(String module) {
    return byPattern(rankPattern, module, r);
  }

  /** Factor before {@code B * A} of a module. */
  public double scale(String module) {
    double alpha = byPattern(alphaPattern, module, loraAlpha);
    return useRslora ? alpha / Math.sqrt(rank(module)) : alpha / rank(module);
  }

  /** The first key that fits the end of the path wins, as in PEFT. */
  private static <T> T byPattern(Map<String, T> pattern, String module, T otherwise) {
    for (Map.Entry<String, T> entry : pattern.entrySet()) {
      if (new ModulePattern("(.*\\.)?(" + entry.getKey() + ")").matches(module)) {
        return entry.getValue();
      }
    }
    return otherwise;
  }

  /** Name of an adapter's tensor in its file; {@code part} is {@code lora_A} or {@code lora_B}. */
  public static String tensorName(String module, String part) {
    return PREFIX + module + "." + part + ".weight";
  }

  /** Name of the stored weight of a module of {@code modules_to_save}. */
  public static String savedName(String module) {
    return PREFIX + module + ".weight";
  }

  /** Reads {@code adapter_config.json} of an adapter folder. */
  public static LoraConfig read(Path adapterFolder) {
    Path file = adapterFolder.resolve(FILE);
    if (!Files.exists(file)) {
      throw new OribiException(adapterFolder + ": "
          + (Files.exists(adapterFolder) ? "has no " + FILE + "; is it an adapter folder?" : "there is no such folder."));
    }
    return parse(Json.readObject(file), file.toString());
  }

  /** The same from JSON at hand; {@code where} names it in errors. */
  public static LoraConfig parse(JsonNode json, String where) {
    Fields config = Fields.of(json, where);
    refuseUnsupported(config);
    try {
      return new LoraConfig(
          config.integer("r", 1, MAX_RANK, 8),
          config.number("lora_alpha", 0, MAX_ALPHA, 8),
          config.number("lora_dropout", 0, 1, 0),
          modulesOf(config, "target_modules"), config.texts("target_parameters"), modulesOf(config, "exclude_modules"),
          config.flag("use_rslora", false),
          config.texts("modules_to_save"),
          init(config),
          ranks(config), alphas(config),
          config.text("base_model_name_or_path", null));
    } catch (OribiException e) {
      throw e.getMessage().startsWith(where) ? e : new OribiException(where + ": " + e.getMessage(), e);
    }
  }

  private static void refuseUnsupported(Fields config) {
    if (!"LORA".equals(config.text("peft_type", null))) {
      throw new OribiException(config.where() + ": peft_type must be \"LORA\", found " + config.text("peft_type", "none") + ".");
    }
    if (!config.text("task_type", "CAUSAL_LM").equals("CAUSAL_LM")) {
      throw config.refuse("task_type", "is not supported; CAUSAL_LM is");
    }
    if (!config.text("bias", "none").equals("none")) {
      throw config.refuse("bias", "is not supported; none is");
    }
    config.node().fieldNames().forEachRemaining(key -> {
      boolean on = config.truthy(key) || key.equals("layers_to_transform") && config.has(key); // 0 is a layer
      if (on && !READ.contains(key) && !HARMLESS.contains(key)) {
        throw config.refuse(key, "is not supported");
      }
    });
  }

  private static Object modulesOf(Fields config, String key) {
    if (!config.has(key)) {
      return null;
    }
    return config.node().get(key).isTextual() ? config.text(key, null) : config.texts(key);
  }

  private static Init init(Fields config) {
    if (!config.has("init_lora_weights")) {
      return Init.KAIMING;
    }
    JsonNode value = config.node().get("init_lora_weights");
    if (value.isBoolean()) {
      return value.booleanValue() ? Init.KAIMING : Init.RANDOM;
    }
    if (value.isTextual() && value.textValue().equalsIgnoreCase("gaussian")) {
      return Init.GAUSSIAN;
    }
    throw config.refuse("init_lora_weights", "is not supported; true, false and \"gaussian\" are");
  }

  private static Map<String, Integer> ranks(Fields config) {
    Map<String, Integer> map = new LinkedHashMap<>();
    pattern(config, "rank_pattern").forEach((key, fields) -> map.put(key, fields.integer(key, 1, MAX_RANK)));
    return map;
  }

  private static Map<String, Double> alphas(Fields config) {
    Map<String, Double> map = new LinkedHashMap<>();
    pattern(config, "alpha_pattern").forEach((key, fields) -> map.put(key, fields.number(key, 0, MAX_ALPHA)));
    return map;
  }

  /** The keys of a pattern, checked to be regular expressions, each with the fields that hold its value. */
  private static Map<String, Fields> pattern(Fields config, String key) {
    Map<String, Fields> entries = new LinkedHashMap<>();
    if (config.has(key)) {
      Fields pattern = Fields.of(config.node().get(key), config.where() + ": " + key);
      pattern.node().fieldNames().forEachRemaining(name -> {
        new ModulePattern(name);
        entries.put(name, pattern);
      });
    }
    return entries;
  }

  /** Writes {@code adapter_config.json} into a folder. */
  public void write(Path folder) {
    Json.write(folder.resolve(FILE), toJson());
  }

  /** Every field that PEFT itself writes; {@code all-linear} is spelled out, as PEFT does. */
  public ObjectNode toJson() {
    ObjectNode json = Json.object();
    for (String unused : List.of("alora_invocation_tokens", "arrow_config", "auto_mapping", "corda_config", "eva_config",
        "layer_replication", "layers_pattern", "layers_to_transform", "megatron_config", "revision",
        "trainable_token_indices")) {
      json.putNull(unused);
    }
    for (String off : List.of("ensure_weight_tying", "fan_in_fan_out", "lora_bias", "use_dora", "use_qalora")) {
      json.put(off, false);
    }
    json.put("peft_type", "LORA").put("task_type", "CAUSAL_LM").put("bias", "none").put("inference_mode", true)
        .put("megatron_core", "megatron.core").put("qalora_group_size", 16)
        .put("base_model_name_or_path", baseModelNameOrPath).put("r", r).put("lora_dropout", loraDropout)
        .put("use_rslora", useRslora);
    json.putObject("loftq_config");
    putNumber(json, "lora_alpha", loraAlpha);
    putModules(json, "target_modules", targetModules.equals(ALL_LINEAR) ? LINEAR_MODULES : targetModules);
    putModules(json, "target_parameters", targetParameters.isEmpty() ? null : targetParameters);
    putModules(json, "exclude_modules", excludeModules);
    putModules(json, "modules_to_save", modulesToSave.isEmpty() ? null : modulesToSave);
    switch (initLoraWeights) {
      case KAIMING -> json.put("init_lora_weights", true);
      case RANDOM -> json.put("init_lora_weights", false);
      case GAUSSIAN -> json.put("init_lora_weights", "gaussian");
    }
    ObjectNode ranks = json.putObject("rank_pattern");
    rankPattern.forEach(ranks::put);
    ObjectNode alphas = json.putObject("alpha_pattern");
    alphaPattern.forEach((key, alpha) -> putNumber(alphas, key, alpha));
    return json;
  }

  private static void putNumber(ObjectNode json, String key, double value) {
    if (value == Math.rint(value) && value < Integer.MAX_VALUE) {
      json.put(key, (int) value);
    } else {
      json.put(key, value);
    }
  }

  private static void putModules(ObjectNode json, String key, Object modules) {
    if (modules instanceof List<?> names) {
      ArrayNode list = json.putArray(key);
      names.forEach(name -> list.add((String) name));
    } else {
      json.put(key, (String) modules);
    }
  }
}
