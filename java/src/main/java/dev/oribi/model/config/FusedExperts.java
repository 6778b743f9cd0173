package dev.oribi.model.config;

import java.util.List;

/**
 * The adapters of a layer's experts where PEFT adapts them as transformers 5 holds them: all experts in one parameter, {@code
 * mlp.experts.gate_up_proj} and {@code mlp.experts.down_proj}, which {@code target_parameters} names.
 *
 * <p>PEFT wraps the module of the experts once for each parameter, in the order of the module: of two wrappers that of {@code
 * gate_up_proj} is the inner one, and its tensors are called {@code experts.base_layer}. A is [experts·rank, in], expert after
 * expert, B is [out, rank·experts] with the expert as the last index.
 */
public record FusedExperts(LoraConfig lora, String layer) {
  public static final String GATE_UP = "gate_up_proj";
  public static final String DOWN = "down_proj";

  private String experts() {
    return layer + ".mlp.experts";
  }

  /** Full names of the parameters, which {@code target_parameters} may name whole or by their end. */
  public List<String> parameters() {
    return List.of(experts() + "." + GATE_UP, experts() + "." + DOWN);
  }

  public boolean adapts(String parameter) {
    return lora.targetsParameter(experts() + "." + parameter);
  }

  /** Name of A or B in the adapter's file. */
  public String tensorName(String parameter, String part) {
    boolean inner = parameter.equals(GATE_UP) && adapts(DOWN);
    return LoraConfig.tensorName(experts() + (inner ? ".base_layer" : ""), part);
  }

  public int rank(String parameter) {
    return lora.rank(experts() + "." + parameter);
  }

  public double scale(String parameter) {
    return lora.scale(experts() + "." + parameter);
  }
}
