package dev.oribi.text;

/**
 * Tokens with the part of the text that each came from.
 *
 * @param ids token ids
 * @param begin first character of each token, as an index into the Java string (UTF-16 units); -1 for a token that the
 *     tokenizer added, such as a beginning-of-sequence token
 * @param end one past the last character of each token; -1 like {@code begin}
 */
public record Encoding(int[] ids, int[] begin, int[] end) {}
