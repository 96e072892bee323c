// Takes commands, checks them, and hands each to the loader and to the pass generator, which then run apart.
//
// After `halt` it waits for the end of the launch, since the next launch counts its words anew.
module dispatcher #(
    parameter int unsigned OUTPUTS = bertile_pkg::ArrayOutputs
) (
    input logic clk,
    input logic reset,

    input bertile_pkg::command_t command,
    input logic command_valid,
    output logic command_ready,
    input logic launch_end,
    output logic launched,  // a command of this launch was taken

    output engine_pkg::load_command_t load,
    output logic load_valid,
    input logic load_ready,
    output engine_pkg::execute_command_t execute,
    output logic execute_valid,
    input logic execute_ready,

    output logic opcode_error,
    output logic shape_error
);

  localparam int unsigned Inputs = bertile_pkg::ArrayInputs;

  typedef enum logic [2:0] {TAKE, CHECK, COMBINE, BASE, HAND_OUT, HALTED} state_t;
  state_t state;
  bertile_pkg::command_t now;
  logic [15:0] base;
  logic [7:0] rows_left;

  logic is_gemm, is_scores, is_context, is_halt, is_known, is_attention;
  assign is_halt = now.opcode == 8'(bertile_pkg::EngineOpcodeHalt);
  assign is_gemm = now.opcode == 8'(bertile_pkg::EngineOpcodeGemm);
  assign is_scores = now.opcode == 8'(bertile_pkg::EngineOpcodeScores);
  assign is_context = now.opcode == 8'(bertile_pkg::EngineOpcodeContext);
  assign is_attention = is_scores || is_context;
  assign is_known = is_halt || is_gemm || is_attention;

  // Shape: what is empty is skipped, what is wrong otherwise is blank. Registered piece by piece, then combined.
  logic empty, bad_rows, bad_head, bad_keys, bad_tiles, bad_slot, bad_shift, bad;
  logic [15:0] key_tiles, head_tiles;
  assign key_tiles = 16'((32'(now.keys) + OUTPUTS - 1) / OUTPUTS);
  assign head_tiles = 16'(now.head_size / OUTPUTS);

  always_ff @(posedge clk) begin
    empty <= now.tiles == '0 || now.row_count == '0;
    bad_rows <= 9'(now.row_first) + 9'(now.row_count) > 9'(bertile_pkg::CapacityRowBlocks);
    bad_head <= 32'(now.head_size) % OUTPUTS != 0 || now.head_size == '0 ||
        now.head_size > 8'(bertile_pkg::CapacityHeadSizes);
    bad_keys <= now.keys == '0 || now.keys > 16'(bertile_pkg::CapacityTokens);
    bad_tiles <= now.tiles != (is_scores ? key_tiles : head_tiles);
    bad_slot <= is_context && now.row_scale_slot >= 16'(bertile_pkg::CapacityProbabilitySlots);
    bad_shift <= now.shift > 8'(bertile_pkg::LawShiftMax);
    bad <= bad_rows || (is_attention && (bad_head || bad_keys || bad_tiles || bad_slot || bad_shift));
  end

  logic loads;
  assign command_ready = state == TAKE;
  assign loads = is_gemm || (is_attention && now.flags[bertile_pkg::FlagReload] && !bad);

  always_ff @(posedge clk) begin
    opcode_error <= 1'b0;
    shape_error <= 1'b0;
    if (launch_end) launched <= 1'b0;
    case (state)
      TAKE: begin
        now <= command;
        if (command_valid) begin
          state <= CHECK;
          launched <= 1'b1;
        end
      end
      CHECK: state <= COMBINE;
      COMBINE: begin
        base <= now.source;
        rows_left <= now.row_first;
        state <= is_halt || (is_known && !empty) ? BASE : TAKE;
        opcode_error <= !is_known;
        shape_error <= is_known && !is_halt && empty;
        load_valid <= 1'b0;
        execute_valid <= 1'b0;
      end
      BASE: begin
        // The first row block's operand: one addition a cycle, behind the commands before.
        if (rows_left == '0 || bad || is_halt) begin
          state <= HAND_OUT;
          shape_error <= bad && !is_halt;
          load_valid <= loads;
          execute_valid <= 1'b1;
        end else begin
          rows_left <= rows_left - 1'b1;
          base <= base + now.source_stride;
        end
      end
      HAND_OUT: begin
        if (load_ready) load_valid <= 1'b0;
        if (execute_ready) execute_valid <= 1'b0;
        if ((load_ready || !load_valid) && (execute_ready || !execute_valid)) state <= is_halt ? HALTED : TAKE;
      end
      default: if (launch_end) state <= TAKE;
    endcase
    if (reset) begin
      state <= TAKE;
      launched <= 1'b0;
      load_valid <= 1'b0;
      execute_valid <= 1'b0;
      opcode_error <= 1'b0;
      shape_error <= 1'b0;
    end
  end

  engine_pkg::mode_t mode;
  assign mode = is_halt ? engine_pkg::MODE_HALT : is_gemm ? engine_pkg::MODE_GEMM :
      is_scores ? engine_pkg::MODE_SCORES : engine_pkg::MODE_CONTEXT;

  always_comb begin
    load = '0;
    load.mode = mode;
    load.tiles = now.tiles;
    load.await_weight = now.await_weight;
    load.weight = now.weight;
    load.weight_stride = now.weight_stride;
    load.keys = 10'(now.keys);
    load.head_size = 7'(now.head_size);
  end

  always_comb begin
    execute = '0;
    execute.reload = now.flags[bertile_pkg::FlagReload] && is_attention;
    execute.blank = bad;
    execute.is_unsigned = now.flags[bertile_pkg::FlagUnsignedSource];
    execute.await_words = {now.await_peer_1, now.await_peer_0, now.await_words};
    execute.base = base;
    execute.stride = now.source_stride;
    execute.rows = now.row_count;
    execute.tiles = now.tiles;
    execute.groups = is_scores ? 16'(now.head_size / Inputs) : 16'((32'(now.keys) + Inputs - 1) / Inputs);
    execute.requantize.mode = mode;
    execute.requantize.row_scale_slot = 2'(now.row_scale_slot);
    execute.requantize.shift = 6'(now.shift);
    execute.requantize.multiplier = now.multiplier;
    execute.requantize.limit_low = now.limit_low;
    execute.requantize.limit_high = now.limit_high;
  end

endmodule
