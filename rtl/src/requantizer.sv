// Drains finished passes: one output of all tokens a cycle, behind the next pass.
//
// The multiplier is per output (gemm), one number (scores) or per token (context: the row scales of softmax).
module requantizer #(
    parameter int unsigned TOKENS  = bertile_pkg::WordTokens,
    parameter int unsigned OUTPUTS = bertile_pkg::ArrayOutputs
) (
    input logic clk,
    input logic reset,

    input engine_pkg::requantize_t pass,  // passes that are under way in the array
    input logic pass_valid,
    input logic done,  // the oldest of them ends; its results stand from the next cycle on
    output logic [$clog2(OUTPUTS)-1:0] select,
    input logic [TOKENS-1:0][engine_pkg::AccumulatorBits-1:0] sums,  // two cycles after `select`

    input logic parameter_write,
    input logic [engine_pkg::EntryBits:0] parameter_row,  // entry, half
    input logic [OUTPUTS*32-1:0] parameter_data,

    input logic scale_write,
    input logic [2:0] scale_row,  // slot, half
    input logic [TOKENS/2-1:0][15:0] scale_data,

    output logic result_valid,
    output logic [TOKENS-1:0][15:0] result
);

  localparam int unsigned LaneLatency = 11;
  localparam int unsigned Slots = bertile_pkg::CapacityProbabilitySlots;
  localparam int unsigned HalfOutputs = OUTPUTS / 2;

  // The passes under way: at most two in the array and the one that ends.
  engine_pkg::requantize_t next, now_0, now_1;
  logic next_valid, unused_ready;
  sync_fifo #(
      .WIDTH($bits(next)),
      .DEPTH(4)
  ) passes (
      .clk,
      .reset,
      .in_data(pass),
      .in_valid(pass_valid),
      .in_ready(unused_ready),
      .out_data(next),
      .out_valid(next_valid),
      .out_ready(done)
  );

  logic running;
  logic [1:0] running_delayed;
  always_ff @(posedge clk) begin
    if (done) begin
      now_0   <= next;
      running <= 1'b1;
      select  <= '0;
    end else if (running) begin
      select <= select + 1'b1;
      if (select == ($clog2(OUTPUTS))'(OUTPUTS - 1)) running <= 1'b0;
    end
    running_delayed <= {running_delayed[0], running};
    if (reset) begin
      running <= 1'b0;
      running_delayed <= '0;
    end
  end

  // Parameters: a row of records, then one of them, to stand beside the sums.
  (* ram_style = "distributed" *) logic [OUTPUTS*32-1:0] parameters[2<<engine_pkg::EntryBits];
  logic [OUTPUTS*32-1:0] row;
  logic [$clog2(HalfOutputs)-1:0] record_1;
  bertile_pkg::tile_parameter_t record;
  logic signed [31:0] bias;
  logic [15:0] multiplier;
  logic by_token;
  logic [5:0] shift;
  logic signed [15:0] limit_low, limit_high;

  assign record = row[64*record_1+:64];
  always_ff @(posedge clk) begin
    if (parameter_write) parameters[parameter_row] <= parameter_data;
    row <= parameters[{now_0.entry, select[$clog2(OUTPUTS)-1]}];
    record_1 <= select[$clog2(HalfOutputs)-1:0];
    now_1 <= now_0;
    bias <= now_1.mode == engine_pkg::MODE_GEMM ? record.bias : '0;
    multiplier <= now_1.mode == engine_pkg::MODE_GEMM ? record.multiplier : now_1.multiplier;
    shift <= now_1.mode == engine_pkg::MODE_GEMM ? 6'(record.shift) : now_1.shift;
    by_token <= now_1.mode == engine_pkg::MODE_CONTEXT;
    limit_low <= now_1.limit_low;
    limit_high <= now_1.limit_high;
  end

  // Row scales, and the multiplier of every token.
  logic [Slots-1:0][1:0][TOKENS/2-1:0][15:0] row_scales;
  logic [TOKENS-1:0][15:0] slot_scales;
  always_ff @(posedge clk) begin
    if (scale_write) row_scales[scale_row[2:1]][scale_row[0]] <= scale_data;
    slot_scales <= row_scales[32'(now_1.row_scale_slot) < 32'(Slots) ? 32'(now_1.row_scale_slot) : 0];
  end

  logic [5:0] shift_5;
  logic [3:0] shift_6;
  logic [1:0] shift_7;
  logic signed [15:0] low_10, high_10;
  delay #(
      .WIDTH (6),
      .CYCLES(5)
  ) delay_shift (
      .clk,
      .in_data (shift),
      .out_data(shift_5)
  );
  delay #(
      .WIDTH (32),
      .CYCLES(10)
  ) delay_limits (
      .clk,
      .in_data ({limit_low, limit_high}),
      .out_data({low_10, high_10})
  );
  always_ff @(posedge clk) begin
    shift_6 <= shift_5[3:0];
    shift_7 <= shift_6[1:0];
  end

  logic [LaneLatency-1:0] valid;
  always_ff @(posedge clk) begin
    valid <= {valid[LaneLatency-2:0], running_delayed[1]};
    if (reset) valid <= '0;
  end
  assign result_valid = valid[LaneLatency-1];

  for (genvar token = 0; token < TOKENS; token++) begin : g_token
    requantizer_lane lane (
        .clk,
        .sum(sums[token]),
        .bias,
        .multiplier(by_token ? slot_scales[token] : multiplier),
        .shift_5,
        .shift_6,
        .shift_7,
        .low_10,
        .high_10,
        .result(result[token])
    );
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk) begin
    if (!reset) begin
      assert (!(done && !next_valid)) else $error("requantizer: a pass ends that never began");
      assert (!(pass_valid && !unused_ready)) else $error("requantizer: more passes than expected");
      assert (!(done && running && select != ($clog2(OUTPUTS))'(OUTPUTS - 1)))
      else $error("requantizer: a pass ends before the one before has left");
    end
  end
`endif

endmodule
