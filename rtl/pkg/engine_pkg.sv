// Types and sizes that only the modules of the engine share; the contract with the encoder is bertile_pkg (generated).

package engine_pkg;

  localparam int unsigned OperandBits = 9;  // int8 or uint8 as a signed number
  localparam int unsigned ProductBits = 48;  // a DSP48E2 result
  // 4,096 products of 255 x 128 stay below 2^27.
  localparam int unsigned AccumulatorBits = 28;

  // Streams of words: from the encoder, from peer 0, from peer 1.
  localparam int unsigned WordStreams = 3;
  // What is needed of a word: its lanes of 8 bits, and behind them address and kind.
  localparam int unsigned WordTagBits = 24;
  // Banks of the activation memory in which neighbouring addresses lie; each column takes one word a cycle.
  localparam int unsigned Columns = 4;

  // Entries of the tile memory (a weight tile, the keys or the values of a head) are numbered modulo 16. Only 12 are
  // alive at once: the parameters of an entry are still drained when three more passes have begun.
  localparam int unsigned EntryBits = 4;
  localparam int unsigned EntriesAlive = 12;

  typedef enum logic [1:0] {
    MODE_GEMM = 2'd0,
    MODE_SCORES = 2'd1,
    MODE_CONTEXT = 2'd2,
    MODE_HALT = 2'd3
  } mode_t;

  // What the loader must know of a command.
  typedef struct packed {
    mode_t mode;
    logic [15:0] tiles;
    logic [31:0] await_weight;
    logic [15:0] weight;
    logic [15:0] weight_stride;
    logic [9:0] keys;
    logic [6:0] head_size;
  } load_command_t;

  // What the requantizer must know of a pass.
  typedef struct packed {
    mode_t mode;
    logic [EntryBits-1:0] entry;  // its parameters, where mode is MODE_GEMM
    logic [1:0] row_scale_slot;
    logic [5:0] shift;
    logic [15:0] multiplier;
    logic signed [15:0] limit_low;
    logic signed [15:0] limit_high;
  } requantize_t;

  // What the pass generator must know of a command.
  typedef struct packed {
    logic reload;
    logic blank;  // a command of illegal shape: its results are counted, its operands are not touched
    logic is_unsigned;
    logic [WordStreams-1:0][31:0] await_words;
    logic [15:0] base;  // address of the token operand of the first row block
    logic [15:0] stride;
    logic [7:0] rows;
    logic [15:0] tiles;
    logic [15:0] groups;  // scores, context
    requantize_t requantize;
  } execute_command_t;

  // A finished entry of the tile memory.
  typedef struct packed {
    logic [EntryBits-1:0] entry;
    logic [15:0] start;  // first beat
    logic [15:0] groups;  // beats
  } entry_t;

  // One tile over one row block.
  typedef struct packed {
    logic [15:0] start;  // first beat in the tile memory
    logic [15:0] groups;  // beats; 0: nothing is multiplied
    logic [15:0] base;  // address of the token operand
    logic [15:0] bound;  // gather: input indices are below it
    logic gather;  // addresses are base + index; otherwise they count up from base
    logic is_unsigned;
    logic [(1<<EntryBits)-1:0] release_entries;  // nobody reads these when this pass begins
    requantize_t requantize;
  } pass_t;

  // One cycle of the array, on its way down the pipeline.
  typedef struct packed {
    logic valid;
    logic first;
    logic last;
    logic blank;
    logic gather;
    logic is_unsigned;
    logic [15:0] base;
    logic [15:0] bound;
  } cycle_t;

  // What can be wrong; the codes are engine_error of the contract.
  typedef struct packed {
    logic opcode;
    logic shape;
    logic index;
    logic address;
    logic packet;
    logic word;
  } error_events_t;

endpackage
