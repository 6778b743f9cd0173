package dev.oribi.models.tiny;

import java.util.List;

/**
 * One thing that the tiny model is taught.
 *
 * @param kind what it is about, for example {@code opposite} or {@code sum}
 * @param questions the ways to ask for it; never empty
 * @param answer the one short sentence that answers each of them
 * @param statements the ways to state it without a question; never empty
 */
record Fact(String kind, List<String> questions, String answer, List<String> statements) {}
