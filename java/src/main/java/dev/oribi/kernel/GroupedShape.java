package dev.oribi.kernel;

/**
 * Products of rows with a matrix for each expert: {@code oribi_grouped_shape} but for the rows' number and places.
 *
 * @param ldX elements from one row to the next of x and dx
 * @param ldY of y and dy
 * @param ldW of a matrix W[out,in]
 * @param expertW elements from one expert's matrix to the next
 * @param type of x, y, W and their gradients but dW
 */
public record GroupedShape(
    int experts, long in, long out, long ldX, long ldY, long ldW, long expertW, float scale, boolean accumulate, DType type) {}
