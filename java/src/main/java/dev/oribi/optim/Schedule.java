package dev.oribi.optim;

/**
 * The learning rate of each optimizer step, by the formulas of Hugging Face's {@code get_*_schedule_with_warmup}.
 *
 * <p>Steps count from 0, as Hugging Face's do: with a warm-up the first step has rate 0. The rate depends on nothing but
 * the number of the step.
 *
 * @param type the shape
 * @param peak the rate that the factor of the shape multiplies
 * @param warmupSteps steps in which the factor rises in equal parts from 0; ignored by {@link SchedulerType#CONSTANT}
 * @param totalSteps steps of the whole run, where {@code linear} and {@code cosine} end
 * @param minRate fraction of the peak at which {@code cosine} ends
 */
public record Schedule(SchedulerType type, double peak, int warmupSteps, int totalSteps, double minRate) {
  /** The rate of the step with this number, from 0. */
  public double rate(long step) {
    return peak * factor(step);
  }

  private double factor(long step) {
    if (type == SchedulerType.CONSTANT) {
      return 1;
    }
    if (step < warmupSteps) {
      return step / (double) Math.max(1, warmupSteps);
    }
    double length = Math.max(1, totalSteps - warmupSteps);
    return switch (type) {
      case CONSTANT, CONSTANT_WITH_WARMUP -> 1;
      case LINEAR -> Math.max(0, (totalSteps - step) / length);
      case COSINE -> {
        double wave = 0.5 * (1 + Math.cos(Math.PI * ((step - warmupSteps) / length)));
        yield Math.max(0, wave * (1 - minRate) + minRate);
      }
    };
  }

  /** Hugging Face's rule: {@code warmup_steps} if given, else {@code warmup_ratio} of all steps, rounded up. */
  public static int warmupSteps(int warmupSteps, double warmupRatio, int totalSteps) {
    return warmupSteps > 0 ? warmupSteps : (int) Math.ceil(totalSteps * warmupRatio);
  }
}
