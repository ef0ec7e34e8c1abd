// Bytes made by other implementations (Python's struct, zlib, lz4, zstandard and python-snappy), as
// hexadecimal.
#pragma once

namespace millrace::record::golden {

// Three records at 1700000000000 ms, deltas 0, 5 and -3: (k1, v1, headers h=x and n=null), (null, 30 times
// "millrace "), (empty key, null value). Producer 4711, epoch 3, base sequence 17, leader epoch -1.
inline constexpr const char* kPlainBatch =
    "000000000000000000000161ffffffff02163dd8e00000000000020000018bcfe568000000018bcfe568050000000000"
    "0012670003000000110000000322000000046b310476310402680278026e01aa04000a02019c046d696c6c7261636520"
    "6d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c"
    "6c72616365206d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c6c7261"
    "6365206d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c6c7261636520"
    "6d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c"
    "6c72616365206d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c6c72616365206d696c6c7261"
    "6365206d696c6c72616365206d696c6c7261636520000c000504000100";

inline constexpr const char* kGzipTwoMembers =
    "1f8b08000000000002035362606060c9366429336461ca60aa60ca635cc5c2c0c5c4388725373327a728313955816206"
    "00ce53e07b640000001f8b0800000000000203cbc9294a4c4e55c8cdcc19ba0c061e065616064606001c6d82bfcc0000"
    "00";
inline constexpr const char* kSnappyRaw =
    "b0028822000000046b310476310402680278026e01aa04000a02019c046d696c6c7261636520fe0900fe0900fe0900fe"
    "090005091c000c000504000100";
inline constexpr const char* kSnappyXerial =
    "82534e415050590000000001000000010000002a648822000000046b310476310402680278026e01aa04000a02019c04"
    "6d696c6c7261636520ee090005090000001164206c6c72616365206d69fe09006a09000000001664206c72616365206d"
    "696cfe09005a09000c000c000500000006040c04000100";
inline constexpr const char* kLz4SizedAndSummed =
    "04224d187c403001000000000000ca31000000ff1422000000046b310476310402680278026e01aa04000a02019c046d"
    "696c6c72616365200900f280000c000504000100fac67ae70000000068933b2f";
// 10000 times "millrace ": two blocks, the second refers to the first.
inline constexpr const char* kLz4LinkedBlocks =
    "04224d184040c0130100009f6d696c6c72616365200900ffffffffffffffffffffffffffffffffffffffffffffffffff"
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffdf506c6c7261636900"
    "00000ff9ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    "ffffffffd750726163652000000000";
inline constexpr const char* kZstdUnsized =
    "28b52ffd00589d0100b40222000000046b310476310402680278026e01aa04000a02019c046d696c6c7261636520000c"
    "000504000100010013a05a9e";
inline constexpr const char* kZstdTwoFrames =
    "28b52ffd00585d0100340222000000046b310476310402680278026e01aa04000a02019c046d696c6c72616365200100"
    "33a5f20428b52ffd0058c50000886c6c72616365206d69000c00050400010001003852e508";

}  // namespace millrace::record::golden
