/** What JavaCPP is told about {@code oribi.h} when the binding is generated. Nothing here is used at run time. */
package dev.oribi.kernel.jni.presets;
