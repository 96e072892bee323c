// Words of one stream: activations into the activation memory, row scales into the requantizer. Counts them all, in
// their order.
//
// A word waits while the array reads both ports of its bank, or a word of another stream goes first; after a while it
// asks the array for a cycle.
module word_intake #(
    parameter int unsigned TOKENS     = bertile_pkg::WordTokens,
    parameter int unsigned BANK_WORDS = bertile_pkg::CapacityActivationBankWords,
    parameter bit          ROW_SCALES = 1  // 0: a stream from a peer, which brings activations only
) (
    input logic clk,
    input logic reset,
    input logic launch_reset,  // the count begins anew

    input logic [TOKENS*8+engine_pkg::WordTagBits-1:0] word,
    input logic word_valid,
    output logic word_ready,

    output logic write_valid,
    output logic [engine_pkg::Columns-1:0] write_columns,
    output logic [bertile_pkg::CapacityActivationBanks-1:0] write_banks,
    output logic [$clog2(BANK_WORDS)-1:0] write_row,
    output logic [TOKENS-1:0][7:0] write_data,
    input logic write_grant,
    output logic hold,  // the array may leave out a cycle

    output logic scale_write,  // of `write_data`
    output logic [2:0] scale_row,

    output logic [31:0] received,
    output logic word_error
);

  localparam int unsigned Banks = bertile_pkg::CapacityActivationBanks;
  localparam int unsigned RowBits = $clog2(BANK_WORDS);
  localparam int unsigned Patience = 8;
  localparam int unsigned ScaleRows = 2 * bertile_pkg::CapacityProbabilitySlots;

  // What a word is, told in front of a register slice.
  logic [7:0] kind;
  logic [15:0] address;
  logic [Banks-1:0] decoded_banks, banks;
  logic [engine_pkg::Columns-1:0] columns;
  logic [RowBits-1:0] row;
  logic is_activation, is_scale, is_illegal;
  assign address = word[TOKENS*8+:16];
  assign kind = word[TOKENS*8+16+:8];
  assign is_activation = kind == 8'(bertile_pkg::WordKindActivation);
  assign is_scale = ROW_SCALES && kind == 8'(bertile_pkg::WordKindRowScale) && address < 16'(ScaleRows);
  assign banks = is_activation ? decoded_banks : '0;
  assign is_illegal = !is_scale && banks == '0;
  always_comb begin
    columns = '0;
    for (int b = 0; b < Banks; b++) columns[b%engine_pkg::Columns] |= banks[b];
  end
  bank_decoder #(
      .BANK_WORDS(BANK_WORDS)
  ) decoder (
      .address,
      .banks(decoded_banks),
      .row
  );

  logic valid, scale, illegal;
  axis_register #(
      .WIDTH(TOKENS * 8 + engine_pkg::Columns + Banks + RowBits + 5)
  ) slice (
      .clk,
      .reset,
      .in_data({word[TOKENS*8-1:0], columns, banks, row, address[2:0], is_scale, is_illegal}),
      .in_valid(word_valid),
      .in_ready(word_ready),
      .out_data({write_data, write_columns, write_banks, write_row, scale_row, scale, illegal}),
      .out_valid(valid),
      .out_ready(write_grant)
  );

  // A word for no bank is always granted.
  assign write_valid = valid;
  assign scale_write = valid && scale;

  logic [$clog2(Patience+1)-1:0] waited;
  assign hold = waited == ($clog2(Patience + 1))'(Patience);
  always_ff @(posedge clk) begin
    word_error <= valid && illegal;
    if (valid && write_grant) received <= received + 1'b1;
    if (!valid || write_grant) waited <= '0;
    else if (!hold) waited <= waited + 1'b1;
    if (reset || launch_reset) begin
      received <= '0;
      waited <= '0;
      word_error <= 1'b0;
    end
  end

`ifndef SYNTHESIS
  // Every word of a launch comes before the answer to `halt`, every word of the next one behind it.
  always_ff @(posedge clk) begin
    if (!reset) assert (!(launch_reset && valid)) else $error("word_intake: a word between two launches");
  end
`endif

endmodule
